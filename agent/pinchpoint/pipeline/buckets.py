"""Histogram bounds (DESIGN section 4, CONVENTIONS section 1)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from pinchpoint.schema.terms import GAP_BOUNDS_NS
from pinchpoint.snapshot import Histogram

LATENCY_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
    0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
"""OpenTelemetry's RPC and HTTP bounds with two below and two above."""

FINE_SECONDS = tuple(bound_ns / 1e9 for bound_ns in GAP_BOUNDS_NS)
"""0.1 ms to 10 s: parts of a request, times between its messages, the lag of an event loop."""

BATCH_SIZE = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

SIZE_BYTES = tuple(256.0 * 4**power for power in range(10))
"""256 B to 64 MiB; 4 MiB, what gRPC accepts unless told otherwise, is one of them."""


class Buckets:
    """A histogram that is being filled."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value, `count` times; a value equal to a bound belongs to it (`le`)."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def merge(self, counts: Sequence[int], total: float) -> None:
        """Add values that were counted by the same bounds, and their sum."""
        self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]
        self._sum += total

    def freeze(self) -> Histogram:
        """The histogram as it is now."""
        return Histogram(self._bounds, tuple(self._counts), self._sum)
