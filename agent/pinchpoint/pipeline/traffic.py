"""Totals of methods and models since the agent attached. Exact: one event a request."""

from __future__ import annotations

from collections import Counter

from pinchpoint.pipeline.buckets import BATCH_SIZE, LATENCY_SECONDS, QUEUE_SECONDS, Buckets
from pinchpoint.schema.events import (
    FLAG_REJECTED,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
)
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Name
from pinchpoint.schema.samples import MethodSample
from pinchpoint.schema.terms import GRPC_CODES, GRPC_TYPES, OTHER, SERVER_FAULT_CODES, STAGES
from pinchpoint.snapshot import MethodTotals, ModelTotals

METHODS_MAX = 64
MODELS_MAX = 16
LAYERS_MAX = 32
"""Beyond these, names are folded into `_OTHER`."""

_REJECTION = {"UNIMPLEMENTED": "unknown_method", "RESOURCE_EXHAUSTED": "concurrency_limit"}

MethodKey = tuple[str, str, str]
"""gRPC type, service, method: the labels, so that no two methods share a series."""


def _key(text: str, grpc_type: str) -> MethodKey:
    service, _, method = text.strip("/").rpartition("/")
    if not service:
        service = method = method or OTHER
    return grpc_type, service, method


class _Method:
    def __init__(self, key: MethodKey) -> None:
        self.grpc_type, self.service, self.method = key
        self.handled = Counter(dict.fromkeys(("OK", *SERVER_FAULT_CODES), 0))
        self.in_flight: dict[tuple[int, int], int] = {}
        # Started by source, by the last reading of what is in flight: adding a reading that
        # is a second old to today's handled would make the counter go back.
        self._finished: Counter[int] = Counter()
        self._started: Counter[int] = Counter()
        self._started_by_the_gone = 0
        self.request = Buckets(LATENCY_SECONDS)
        self.handling = Buckets(LATENCY_SECONDS)
        self.queue = Buckets(QUEUE_SECONDS)

    def handle(self, source: int, code: str) -> None:
        """One more request is finished."""
        self.handled[code] += 1
        self._finished[source] += 1
        self._started[source] = max(self._started[source], self._finished[source])

    def run(self, source: int, name_id: int, in_flight: int) -> None:
        """What a source has in flight of one of the names that are counted here."""
        self.in_flight[source, name_id] = in_flight
        running = sum(count for (of, _), count in self.in_flight.items() if of == source)
        self._started[source] = max(self._started[source], self._finished[source] + running)

    def close_source(self, source: int) -> None:
        """A process is gone, and with it what it had in flight: started, never handled."""
        self.in_flight = {key: n for key, n in self.in_flight.items() if key[0] != source}
        self._finished.pop(source, None)
        self._started_by_the_gone += self._started.pop(source, 0)

    def freeze(self) -> MethodTotals:
        return MethodTotals(
            self.grpc_type,
            self.service,
            self.method,
            self._started_by_the_gone + self._started.total(),
            dict(self.handled),
            sum(self.in_flight.values()),
            self.request.freeze(),
            self.handling.freeze(),
            self.queue.freeze(),
        )


class _Model:
    def __init__(self) -> None:
        self.forward = Buckets(LATENCY_SECONDS)
        self.batch_size = Buckets(BATCH_SIZE)
        self.layers: Counter[str] = Counter()
        self.samples = 0
        self.last_sample: tuple[int, int] | None = None


class Traffic:
    """Counts requests, forwards and layers.

    Args:
        names: resolves the ids in the records.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._methods: dict[MethodKey, _Method] = {}
        self._models: dict[str, _Model] = {}
        self.rejected = Counter(dict.fromkeys((*_REJECTION.values(), "error"), 0))
        self.stages: dict[str, tuple[float, float]] = {}

    def declare(self, name: Name) -> None:
        """A method that the server has registered: its zeros are exported up front."""
        self._method(name.text, GRPC_TYPES[name.detail % len(GRPC_TYPES)])

    def request(self, source: int, event: RequestEvent) -> None:
        """Count a finished request."""
        code = GRPC_CODES[event.status]
        if event.flags & FLAG_REJECTED:
            self.rejected[_REJECTION.get(code, "error")] += 1
        method = self._method(
            self._names.text(source, event.method_id), GRPC_TYPES[event.grpc_type]
        )
        method.handle(source, code)
        if event.flags & FLAG_REJECTED:
            return
        method.request.observe(event.latency_ns / 1e9)
        method.handling.observe(event.handler_ns / 1e9)
        method.queue.observe(event.queue_ns / 1e9)

    def detail(self, detail: RequestDetail) -> None:
        """Add a sampled request's stages, for all the requests that it stands for."""
        for name, stage in zip(STAGES, detail.stages, strict=True):
            if stage.wall_ns:
                count, seconds = self.stages.get(name, (0.0, 0.0))
                seconds += detail.weight * stage.wall_ns / 1e9
                self.stages[name] = (count + detail.weight, seconds)

    def forward(self, source: int, event: ForwardEvent) -> None:
        """Count a forward of a model."""
        model = self._model(self._names.text(source, event.model_id))
        model.forward.observe(event.wall_ns / 1e9)
        if event.batch_size:
            model.batch_size.observe(event.batch_size)

    def layer(self, source: int, event: LayerEvent) -> None:
        """Add a layer's own CPU time in a sampled forward."""
        model = self._model(self._names.text(source, event.model_id))
        name = self._names.text(source, event.layer_id)
        if name not in model.layers and len(model.layers) >= LAYERS_MAX:
            name = OTHER
        model.layers[name] += event.cpu_ns  # nanoseconds: exact sums of integers
        sample = (source, event.sample_id)
        if sample != model.last_sample:
            model.samples += 1
            model.last_sample = sample

    def running(self, source: int, sample: MethodSample) -> None:
        """Note how many requests of a method are in flight."""
        name = self._names.get(source, sample.instance)
        if name is None or sample.in_flight is None:
            return
        method = self._method(name.text, GRPC_TYPES[name.detail % len(GRPC_TYPES)])
        method.run(source, sample.instance, round(sample.in_flight))

    def close_source(self, source: int) -> None:
        """A process is gone, and with it what it had in flight."""
        for method in self._methods.values():
            method.close_source(source)

    def methods(self) -> tuple[MethodTotals, ...]:
        """Every method, by name."""
        return tuple(method.freeze() for _, method in sorted(self._methods.items()))

    def models(self) -> tuple[ModelTotals, ...]:
        """Every model, by name."""
        return tuple(
            ModelTotals(
                name,
                model.forward.freeze(),
                model.batch_size.freeze(),
                {layer: cpu_ns / 1e9 for layer, cpu_ns in model.layers.items()},
                model.samples,
            )
            for name, model in sorted(self._models.items())
        )

    def _method(self, text: str, grpc_type: str) -> _Method:
        key = _key(text, grpc_type)
        if key not in self._methods and len(self._methods) >= METHODS_MAX:
            key = _key(OTHER, grpc_type)
        method = self._methods.get(key)
        if method is None:
            method = self._methods[key] = _Method(key)
        return method

    def _model(self, name: str) -> _Model:
        if name not in self._models and len(self._models) >= MODELS_MAX:
            name = OTHER
        return self._models.setdefault(name, _Model())
