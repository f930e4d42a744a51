"""What all mechanism tests of one window share, computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from pinchpoint.detect.decomposition import Decomposition, decompose
from pinchpoint.detect.features import Features
from pinchpoint.detect.reference import QUEUE, Figures, figures
from pinchpoint.detect.replay_model import REQUESTS_MAX, Gain, Job, Model
from pinchpoint.detect.thresholds import (
    GIL_LATE_RATIO,
    GIL_OTHER_CORES,
    THROTTLED_PERIODS_RATIO,
    WINDOW_NS,
)
from pinchpoint.schema.events import RequestDetail

Removal = Callable[[RequestDetail], float]
"""Seconds of service time that a request would not need without the cause."""


@dataclass(frozen=True)
class Circumstances:
    """A window, taken apart, beside its reference and its replay model."""

    features: Features
    decomposition: Decomposition
    figures: Figures
    reference: Figures | None
    model: Model
    throttled: bool
    gil_contended: bool
    gil_held_by_others: bool

    def gain(self, removal: Removal) -> Gain:
        """What the requests would gain without some of their service time."""
        return self.model.gain(removed=_per_job(self, removal))

    def grown(self, value: float, reference: float | None) -> float | None:
        """How many times its reference a figure is; None without a reference."""
        if self.reference is None or reference is None:
            return None
        return value / max(reference, 1e-6)

    @property
    def utilization(self) -> float:
        """The larger of worker and CPU utilisation: what headroom is left of."""
        return max(self.model.utilization, self.features.cpu_utilization or 0.0)


def consider(features: Features, reference: Figures | None) -> Circumstances | None:
    """The circumstances of a window; None if too few requests were sampled."""
    now = figures(features.details, WINDOW_NS / 1e9, features.cpu_per_request_seconds)
    if now is None:
        return None
    newest = sorted(features.completed, key=attrgetter("arrival_ns"))[-REQUESTS_MAX:]
    begin_seconds, end_seconds = features.window_seconds
    if len(newest) < len(features.completed):
        # What is not replayed keeps no worker of the model busy.
        begin_seconds = max(begin_seconds, newest[0].arrival_ns / 1e9)
    jobs = [Job(c.arrival_ns / 1e9, c.event.queue_ns / 1e9, c.service_ns / 1e9) for c in newest]
    throttled = (features.throttled_periods_ratio or 0.0) >= THROTTLED_PERIODS_RATIO
    others = features.python_cores is None or features.python_cores >= GIL_OTHER_CORES
    return Circumstances(
        features=features,
        decomposition=decompose(features),
        figures=now,
        reference=reference,
        model=Model(jobs, effective_workers(features), begin_seconds, end_seconds),
        throttled=throttled,
        gil_contended=(features.gil_late_ratio or 0.0) >= GIL_LATE_RATIO,
        gil_held_by_others=others,
    )


def effective_workers(features: Features) -> int:
    """How many requests are served at once: the pool, or the most ever seen at work."""
    if features.traffic.workers:
        return features.traffic.workers
    edges = []
    for completed in features.completed:
        begin = completed.end_ns - completed.service_ns
        edges += [(begin, 1), (completed.end_ns, -1)]
    running = most = 0
    for _, step in sorted(edges):
        running += step
        most = max(most, running)
    return max(1, most)


def _per_job(circumstances: Circumstances, removal: Removal) -> list[float]:
    """Seconds removed from each job: measured where it was sampled, else in proportion."""
    features = circumstances.features
    removals = [removal(detail) for _, detail in features.details]
    pairs = list(zip(features.details, removals, strict=True))
    measured = {sampled.arrival_ns / 1e9: seconds for sampled, seconds in pairs}
    service = sum(d.weight * (d.latency_ns - d.stages[QUEUE].wall_ns) for _, d in features.details)
    removed = sum(sampled.detail.weight * seconds for sampled, seconds in pairs) * 1e9
    ratio = removed / service if service > 0 else 0.0
    return [
        measured.get(job.arrival_seconds, job.service_seconds * ratio)
        for job in circumstances.model.jobs
    ]
