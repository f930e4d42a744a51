"""What a request costs when nothing is wrong: learned from healthy seconds, never required.

Kept in seconds of traffic, so that the median over them shrugs off a bad one. Frozen
while a label is active, and purged of what came just before it. Survives the serving
process: the agent sees the service, not one incarnation of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from pinchpoint.detect.features import PREPROCESS_STAGES
from pinchpoint.detect.thresholds import (
    REFERENCE_LAG_NS,
    REFERENCE_PURGE_NS,
    REFERENCE_SECONDS_MAX,
    REFERENCE_SECONDS_MIN,
    REQUESTS_MIN,
)
from pinchpoint.detect.window import Sampled
from pinchpoint.schema.events import RequestDetail
from pinchpoint.schema.terms import STAGE_INDEX

PREPROCESS = tuple(STAGE_INDEX[name] for name in PREPROCESS_STAGES)
FORWARD = STAGE_INDEX["forward"]
QUEUE = STAGE_INDEX["queue"]


@dataclass(frozen=True)
class Figures:
    """Median seconds of one request, by what the service is made of."""

    preprocess_cpu: float
    forward_cpu: float
    waiting: float
    """Blocked in the service, the waits for a CPU taken off: an answer that has come still
    waits for the thread that takes it, about as long as the request itself waits to run."""
    service: float
    latency: float
    process_cpu: float | None
    """CPU of the whole process for each request, whoever burns it."""
    requests: float
    """How many requests a second the figures stand for."""


def figures(
    details: Iterable[Sampled], seconds: float, process_cpu: float | None
) -> Figures | None:
    """The figures of some sampled requests; None if there are too few."""
    rows = [detail for _, detail in details]
    if len(rows) < REQUESTS_MIN:
        return None
    return Figures(
        preprocess_cpu=median(sum(d.stages[i].cpu_ns for i in PREPROCESS) for d in rows) / 1e9,
        forward_cpu=median(d.stages[FORWARD].cpu_ns for d in rows) / 1e9,
        waiting=median(_waiting_ns(d) for d in rows) / 1e9,
        service=median(d.latency_ns - d.stages[QUEUE].wall_ns for d in rows) / 1e9,
        latency=median(d.latency_ns for d in rows) / 1e9,
        process_cpu=process_cpu,
        requests=sum(d.weight for d in rows) / seconds,
    )


def _waiting_ns(detail: RequestDetail) -> int:
    waiting_ns = 0
    for i, (wall_ns, cpu_ns, runqueue_ns) in enumerate(detail.stages):
        if wall_ns and i != QUEUE:
            waiting_ns += max(0, wall_ns - cpu_ns - runqueue_ns) - runqueue_ns
    return max(0, waiting_ns)


class Reference:
    """Learns figures from healthy seconds."""

    def __init__(self) -> None:
        self._pending: deque[tuple[int, Figures]] = deque()
        self._seconds: deque[tuple[int, Figures]] = deque(maxlen=REFERENCE_SECONDS_MAX)

    def learn(self, now_ns: int, second: Figures | None) -> None:
        """Take in one healthy second; it counts once it is `REFERENCE_LAG_NS` old."""
        if second is not None:
            self._pending.append((now_ns, second))
        while self._pending and self._pending[0][0] <= now_ns - REFERENCE_LAG_NS:
            self._seconds.append(self._pending.popleft())

    def purge(self, now_ns: int) -> None:
        """A label has appeared: forget the seconds that its cause may have touched."""
        self._pending.clear()
        while (
            len(self._seconds) > REFERENCE_SECONDS_MIN
            and self._seconds[-1][0] > now_ns - REFERENCE_PURGE_NS
        ):
            self._seconds.pop()

    def figures(self) -> Figures | None:
        """The median second, or None while too few are known."""
        if len(self._seconds) < REFERENCE_SECONDS_MIN:
            return None
        rows = [row for _, row in self._seconds]
        return Figures(
            preprocess_cpu=median(r.preprocess_cpu for r in rows),
            forward_cpu=median(r.forward_cpu for r in rows),
            waiting=median(r.waiting for r in rows),
            service=median(r.service for r in rows),
            latency=median(r.latency for r in rows),
            process_cpu=_median_of_known(r.process_cpu for r in rows),
            requests=median(r.requests for r in rows),
        )


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
