"""Totals of one HTTP method and route."""

from __future__ import annotations

from pinchpoint.pipeline.buckets import FINE_SECONDS, LATENCY_SECONDS, Buckets
from pinchpoint.pipeline.caps import STATUSES_MAX, capped
from pinchpoint.pipeline.in_flight import InFlight
from pinchpoint.schema.events import FLAG_REJECTED, RequestEvent, StreamEvent
from pinchpoint.snapshot import RouteTotals


class Route:
    """Counts the requests of a route, whether their responses are streams or not.

    Args:
        http_method: as `POST`.
        route: as the server declares it, `/items/{item_id}`.
    """

    def __init__(self, http_method: str, route: str) -> None:
        self._labels = http_method, route
        self.in_flight = InFlight()
        self._request = Buckets(LATENCY_SECONDS)
        self._by_status: dict[str, Buckets] = {}
        self._queue = Buckets(FINE_SECONDS)

    def finish(self, event: RequestEvent) -> None:
        """A request is over. What was rejected has no times."""
        if event.flags & FLAG_REJECTED:
            return
        seconds = event.latency_ns / 1e9
        # OpenTelemetry leaves the attribute out where no response was sent; an empty label is none.
        status = str(event.status) if event.status else ""
        status = capped(status, self._by_status, STATUSES_MAX)
        self._by_status.setdefault(status, Buckets(LATENCY_SECONDS)).observe(seconds)
        self._request.observe(seconds)
        self._queue.observe(event.queue_ns / 1e9)

    def stream(self, event: StreamEvent) -> None:
        """Chunks of a body are no messages that anyone counts by route."""

    def freeze(self) -> RouteTotals:
        """The totals as they are now."""
        return RouteTotals(
            *self._labels,
            in_flight=self.in_flight.running,
            durations={status: buckets.freeze() for status, buckets in self._by_status.items()},
            request=self._request.freeze(),
            queue=self._queue.freeze(),
        )
