"""Totals of one HTTP method and route."""

from __future__ import annotations

from pinchpoint.pipeline.buckets import Buckets
from pinchpoint.pipeline.caps import Admission
from pinchpoint.pipeline.costs import Costs
from pinchpoint.pipeline.in_flight import InFlight
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import FLAG_REJECTED, RequestDetail, RequestEvent, StreamEvent
from pinchpoint.snapshot import RouteTotals


class Route:
    """Counts the requests of a route, whether their responses are streams or not.

    Args:
        http_method: as `POST`.
        route: as the server declares it, `/items/{item_id}`.
        admission: which statuses get series of their own.
        options: has the bounds.
    """

    def __init__(
        self, http_method: str, route: str, admission: Admission, options: PipelineOptions
    ) -> None:
        self._labels = http_method, route
        self._admission = admission
        self._bounds, self._native = options.latency_bounds, options.native_histograms
        self._series = Costs(options).status
        self.in_flight = InFlight()
        self._request = Buckets(self._bounds, native=self._native)
        self._by_status: dict[str, Buckets] = {}
        self._queue = Buckets(options.fine_bounds_seconds, native=self._native)

    def finish(self, event: RequestEvent) -> None:
        """A request is over. What was rejected has no times."""
        if event.flags & FLAG_REJECTED:
            return
        seconds = event.latency_ns / 1e9
        self._of_status(event.status).observe(seconds)
        self._request.observe(seconds)
        self._queue.observe(event.queue_ns / 1e9)

    def stream(self, event: StreamEvent) -> None:
        """Chunks of a body are no messages that anyone counts by route."""

    def exemplify(self, detail: RequestDetail, trace_id: str, wall_seconds: float) -> None:
        """A sampled request carried a trace id."""
        seconds = detail.latency_ns / 1e9
        for buckets in (self._of_status(detail.status), self._request):
            buckets.exemplify(seconds, trace_id, wall_seconds)

    def _of_status(self, code: int) -> Buckets:
        # OpenTelemetry leaves the attribute out where no response was sent; an empty label is none.
        text = str(code) if code else ""
        status = self._admission.name("statuses", text, self._series, within=self._labels)
        buckets = self._by_status.get(status)
        if buckets is None:
            buckets = self._by_status[status] = Buckets(self._bounds, native=self._native)
        return buckets

    def freeze(self) -> RouteTotals:
        """The totals as they are now."""
        return RouteTotals(
            *self._labels,
            in_flight=self.in_flight.running,
            durations={status: buckets.freeze() for status, buckets in self._by_status.items()},
            request=self._request.freeze(),
            queue=self._queue.freeze(),
        )
