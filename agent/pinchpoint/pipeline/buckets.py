"""Histogram bounds (DESIGN section 4, CONVENTIONS section 1)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import frexp

from pinchpoint.schema.terms import GAP_BOUNDS_NS
from pinchpoint.snapshot import ZERO_THRESHOLD, Exemplar, Histogram, NativeBuckets

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


NATIVE_SCHEMA = 3
"""Resolution to begin with: eight buckets for each power of two, 9 % apart."""

NATIVE_BUCKETS_MAX = 160
"""As OpenTelemetry's exponential histograms; beyond it the resolution is halved."""

_FRACTIONS = tuple(0.5 * 2 ** (part / 2**NATIVE_SCHEMA) for part in range(2**NATIVE_SCHEMA))
"""Upper bounds of the buckets between 1/2 and 1, where `frexp` puts every value."""


class Buckets:
    """A histogram that is being filled.

    Args:
        bounds: of the classic buckets.
        native: count by exponential buckets too; then every value has to be observed by itself.
    """

    def __init__(self, bounds: Sequence[float], *, native: bool = False) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._exemplars: list[Exemplar | None] = []
        self._native = _Exponential() if native else None

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value, `count` times; a value equal to a bound belongs to it (`le`)."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count
        if self._native is not None:
            self._native.observe(value, count)

    def exemplify(self, value: float, trace_id: str, wall_seconds: float) -> None:
        """Make a request the example of the bucket of its value, which is counted elsewhere."""
        if not self._exemplars:
            self._exemplars = [None] * len(self._counts)
        exemplar = Exemplar(trace_id, value, wall_seconds)
        self._exemplars[bisect_left(self._bounds, value)] = exemplar

    def merge(self, counts: Sequence[int], total: float) -> None:
        """Add values that were counted by the same bounds, and their sum; not to native buckets,
        which cannot be told from them."""
        assert self._native is None
        self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]
        self._sum += total

    def freeze(self) -> Histogram:
        """The histogram as it is now."""
        native = self._native.freeze() if self._native is not None else None
        return Histogram(
            self._bounds, tuple(self._counts), self._sum, tuple(self._exemplars), native
        )


class _Exponential:
    """Native buckets that are being filled, as client_golang fills them."""

    def __init__(self) -> None:
        self._schema = NATIVE_SCHEMA
        self._zero_count = 0
        self._counts: dict[int, int] = {}

    def observe(self, value: float, count: int) -> None:
        if value <= ZERO_THRESHOLD:
            self._zero_count += count
            return
        fraction, exponent = frexp(value)
        finest = bisect_left(_FRACTIONS, fraction) + (exponent - 1) * len(_FRACTIONS)
        index = -(-finest >> (NATIVE_SCHEMA - self._schema))
        self._counts[index] = self._counts.get(index, 0) + count
        while len(self._counts) > NATIVE_BUCKETS_MAX:
            merged = self.freeze().at(self._schema - 1)
            self._schema, self._counts = merged.schema, dict(merged.counts)

    def freeze(self) -> NativeBuckets:
        return NativeBuckets(self._schema, self._zero_count, dict(self._counts))
