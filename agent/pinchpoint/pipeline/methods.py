"""gRPC methods and HTTP routes, each with its totals since the agent attached. Exact: one event
a request."""

from __future__ import annotations

from functools import lru_cache

from pinchpoint.pipeline.caps import Admission
from pinchpoint.pipeline.costs import Costs
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.pipeline.routes import Route
from pinchpoint.pipeline.rpcs import Rpcs
from pinchpoint.schema.events import RequestDetail, RequestEvent, StreamEvent
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Name
from pinchpoint.schema.samples import MethodSample
from pinchpoint.schema.terms import CALL_TYPES, GRPC_TYPES, HTTP_SERVICE, OTHER
from pinchpoint.snapshot import MethodTotals, RouteTotals

Key = tuple[str, str, str]
"""gRPC type, service, method; or `http`, HTTP method, route. The labels, so that no two entries
share a series."""


@lru_cache(maxsize=2048)
def _key(text: str, call_type: int) -> Key:
    if call_type < len(GRPC_TYPES):
        service, _, method = text.strip("/").rpartition("/")
        if not service:
            service = method = method or OTHER
        return GRPC_TYPES[call_type], service, method
    http_method, _, route = text.partition(" ")
    return HTTP_SERVICE, http_method or OTHER, route or OTHER


class Methods:
    """Counts requests by what they ask for.

    Args:
        names: resolves the ids in the records.
        admission: which methods and routes get series of their own.
        options: has the bounds.
    """

    def __init__(self, names: Names, admission: Admission, options: PipelineOptions) -> None:
        self._names = names
        self._admission = admission
        self._options = options
        costs = Costs(options)
        self._series = {True: costs.route, False: costs.rpcs}
        self._methods: dict[Key, Rpcs | Route] = {}

    def declare(self, name: Name) -> None:
        """A method that the server has registered: its zeros are exported up front."""
        self._of_name(name)

    def request(self, source: int, event: RequestEvent) -> None:
        """Count a finished request."""
        method = self._of(self._names.text(source, event.method_id), event.call_type)
        method.in_flight.finish(source)
        method.finish(event)

    def stream(self, source: int, event: StreamEvent) -> None:
        """Add what went through a stream."""
        self._of(self._names.text(source, event.method_id), event.call_type).stream(event)

    def exemplify(self, source: int, detail: RequestDetail, wall_seconds: float) -> None:
        """Keep the trace id of a sampled request beside the bucket that it is in."""
        method = self._of(self._names.text(source, detail.method_id), detail.call_type)
        method.exemplify(detail, f"{detail.trace_id:032x}", wall_seconds)

    def running(self, source: int, sample: MethodSample) -> None:
        """Note how many requests of a method are in flight."""
        name = self._names.get(source, sample.instance)
        if name is not None and sample.in_flight is not None:
            method = self._of_name(name)
            method.in_flight.run(source, sample.instance, round(sample.in_flight))

    def close_source(self, source: int) -> None:
        """A process is gone, and with it what it had in flight."""
        for method in self._methods.values():
            method.in_flight.close_source(source)

    def rpcs(self) -> tuple[MethodTotals, ...]:
        """Every gRPC method, by name."""
        methods = sorted(self._methods.items())
        return tuple(method.freeze() for _, method in methods if isinstance(method, Rpcs))

    def routes(self) -> tuple[RouteTotals, ...]:
        """Every HTTP route, by method and route."""
        methods = sorted(self._methods.items())
        return tuple(method.freeze() for _, method in methods if isinstance(method, Route))

    def _of_name(self, name: Name) -> Rpcs | Route:
        # A type that this release does not know is damage; any other would do as well.
        return self._of(name.text, name.detail % len(CALL_TYPES))

    def _of(self, text: str, call_type: int) -> Rpcs | Route:
        key = _key(text, call_type)
        method = self._methods.get(key)
        if method is None:
            other, series = _key(OTHER, call_type), self._series[key[0] == HTTP_SERVICE]
            if key != other and not self._admission.admits("methods", key, series):
                key = other
                method = self._methods.get(key)
        if method is None:
            method = self._methods[key] = self._made(key)
        return method

    def _made(self, key: Key) -> Rpcs | Route:
        if key[0] == HTTP_SERVICE:
            return Route(*key[1:], self._admission, self._options)
        return Rpcs(*key, self._options)
