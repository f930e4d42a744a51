"""Histogram bounds (DESIGN section 4, CONVENTIONS section 1)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from pinchpoint.snapshot import Histogram

LATENCY_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
    0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
"""OpenTelemetry's RPC bounds with two below and two above."""

QUEUE_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

BATCH_SIZE = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Buckets:
    """A histogram that is being filled."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a value equal to a bound belongs to it (`le`)."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def freeze(self) -> Histogram:
        """The histogram as it is now."""
        return Histogram(self._bounds, tuple(self._counts), self._sum)
