"""Totals of torch models since the agent attached."""

from __future__ import annotations

from collections import Counter

from pinchpoint.pipeline.buckets import BATCH_SIZE, Buckets
from pinchpoint.pipeline.caps import Admission
from pinchpoint.pipeline.costs import Costs
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import (
    FORWARD_GRAD,
    FORWARD_TRAINING,
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
)
from pinchpoint.schema.names import Names
from pinchpoint.snapshot import ModelTotals


class _Model:
    def __init__(self, options: PipelineOptions) -> None:
        self.forward = Buckets(options.latency_bounds)
        self.batch_size = Buckets(BATCH_SIZE)
        self.with_grad = self.in_training_mode = 0
        self.enqueue = Buckets(options.fine_bounds_seconds)
        self.device = Buckets(options.fine_bounds_seconds)
        self.layers: Counter[str] = Counter()
        self.samples = 0
        self.last_sample: tuple[int, int] | None = None

    def freeze(self, name: str) -> ModelTotals:
        return ModelTotals(
            model=name,
            forward=self.forward.freeze(),
            batch_size=self.batch_size.freeze(),
            forwards_with_grad=self.with_grad,
            forwards_in_training_mode=self.in_training_mode,
            enqueue=self.enqueue.freeze(),
            device=self.device.freeze(),
            layer_seconds={layer: cpu_ns / 1e9 for layer, cpu_ns in self.layers.items()},
            layer_samples=self.samples,
        )


class Models:
    """Counts forwards, what their device did, and their layers.

    Args:
        names: resolves the ids in the records.
        admission: which models and layers get series of their own.
        options: has the bounds.
    """

    def __init__(self, names: Names, admission: Admission, options: PipelineOptions) -> None:
        self._names = names
        self._admission = admission
        self._options = options
        self._costs = Costs(options)
        self._models: dict[str, _Model] = {}

    def forward(self, source: int, event: ForwardEvent) -> None:
        """Count a forward of a model."""
        model = self._model(source, event.model_id)
        model.forward.observe(event.wall_ns / 1e9)
        model.with_grad += bool(event.flags & FORWARD_GRAD)
        model.in_training_mode += bool(event.flags & FORWARD_TRAINING)
        if event.batch_size:
            model.batch_size.observe(event.batch_size)

    def device(self, source: int, event: DeviceEvent) -> None:
        """Add what is known later of a sampled forward. It has been counted as a forward."""
        model = self._model(source, event.model_id)
        model.enqueue.observe(event.host_ns / 1e9)
        model.device.observe(event.device_ns / 1e9)

    def layer(self, source: int, event: LayerEvent) -> None:
        """Add a layer's own CPU time in a sampled forward."""
        model = self._model(source, event.model_id)
        text = self._names.text(source, event.layer_id)
        name = self._admission.name("layers", text, self._costs.layer, within=model)
        model.layers[name] += event.cpu_ns  # nanoseconds: exact sums of integers
        sample = (source, event.sample_id)
        if sample != model.last_sample:
            model.samples += 1
            model.last_sample = sample

    def freeze(self) -> tuple[ModelTotals, ...]:
        """Every model, by name."""
        return tuple(model.freeze(name) for name, model in sorted(self._models.items()))

    def _model(self, source: int, model_id: int) -> _Model:
        text = self._names.text(source, model_id)
        name = self._admission.name("models", text, self._costs.model)
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = _Model(self._options)
        return model
