"""Totals of one gRPC method."""

from __future__ import annotations

from collections import Counter

from pinchpoint.pipeline.buckets import Buckets
from pinchpoint.pipeline.in_flight import InFlight
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import (
    FLAG_BEHAVIOUR_CALLED,
    FLAG_REJECTED,
    FLAG_RESPONDED,
    RequestDetail,
    RequestEvent,
    StreamEvent,
)
from pinchpoint.schema.terms import (
    GRPC_CODES,
    REQUEST_STREAMS,
    RESPONSE_STREAMS,
    SERVER_FAULT_CODES,
)
from pinchpoint.snapshot import MethodTotals


class Rpcs:
    """Counts the RPCs of a method.

    Args:
        grpc_type: of `terms.GRPC_TYPES`.
        service: full name, as `package.Service`.
        method: name within the service.
        options: has the bounds.
    """

    def __init__(self, grpc_type: str, service: str, method: str, options: PipelineOptions) -> None:
        self._labels = grpc_type, service, method
        self.in_flight = InFlight()
        self._handled = Counter(dict.fromkeys(("OK", *SERVER_FAULT_CODES), 0))
        self._received = self._sent = 0
        latency, native = options.latency_bounds, options.native_histograms
        self._request = Buckets(latency, native=native)
        self._handling = Buckets(latency, native=native)
        self._queue = Buckets(options.fine_bounds_seconds, native=native)

    def finish(self, event: RequestEvent) -> None:
        """An RPC is over. What was rejected has a code and no times."""
        self._handled[GRPC_CODES[event.status]] += 1
        if event.flags & FLAG_REJECTED:
            return
        if event.flags & FLAG_BEHAVIOUR_CALLED:
            self._handling.observe(event.handler_ns / 1e9)
            self._received += event.call_type not in REQUEST_STREAMS
        if event.flags & FLAG_RESPONDED and event.call_type not in RESPONSE_STREAMS:
            self._sent += 1
        self._request.observe(event.latency_ns / 1e9)
        self._queue.observe(event.queue_ns / 1e9)

    def stream(self, event: StreamEvent) -> None:
        """Add the messages of the ways that are streams."""
        self._received += event.received
        self._sent += event.sent

    def exemplify(self, detail: RequestDetail, trace_id: str, wall_seconds: float) -> None:
        """A sampled RPC carried a trace id."""
        self._request.exemplify(detail.latency_ns / 1e9, trace_id, wall_seconds)

    def freeze(self) -> MethodTotals:
        """The totals as they are now."""
        return MethodTotals(
            *self._labels,
            started=self.in_flight.started,
            handled=dict(self._handled),
            in_flight=self.in_flight.running,
            received=self._received,
            sent=self._sent,
            request=self._request.freeze(),
            handling=self._handling.freeze(),
            queue=self._queue.freeze(),
        )
