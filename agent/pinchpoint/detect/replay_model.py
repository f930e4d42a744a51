"""What if a cause were gone: the window's requests replayed through a first-come
first-served queue with c servers, in their order, with their own service times.

Subtracting a component (Amdahl) is off by 56 points for latency under queueing, the replay
by under 3 (DETECTOR 0, item 6); order is kept because a stall hits neighbours together.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from pinchpoint.detect.features import quantile
from pinchpoint.detect.thresholds import REPLAY_TOLERANCE

REQUESTS_MAX = 2_000


class Job(NamedTuple):
    """One request: when it came, how long it waited, how long it held a worker (seconds)."""

    arrival_seconds: float
    queue_seconds: float
    service_seconds: float


class Outcome(NamedTuple):
    """Latency of a replay, in seconds."""

    mean_seconds: float
    p95_seconds: float


class Gain(NamedTuple):
    """What a change would bring; an upper bound. `trusted`: the factual replay agreed. None where
    nothing is known of single requests."""

    mean_ratio: float
    p95_ratio: float | None
    utilization_after: float
    trusted: bool


def replay(jobs: Sequence[Job], servers: int, warm: Sequence[float] = ()) -> Outcome:
    """Run jobs, sorted by arrival, through `servers` first-come first-served servers.

    Args:
        jobs: at least one.
        servers: how many run at once.
        warm: when servers become free for the first time (seconds); the rest at once.
    """
    start = jobs[0].arrival_seconds
    free = [*warm[:servers], *[start] * (servers - len(warm[:servers]))]
    heapq.heapify(free)
    latencies = []
    for job in jobs:
        begin = max(job.arrival_seconds, free[0])
        end = begin + job.service_seconds
        heapq.heapreplace(free, end)
        latencies.append(end - job.arrival_seconds)
    latencies.sort()
    return Outcome(sum(latencies) / len(latencies), quantile(latencies, 0.95) or 0.0)


class Model:
    """The replay of one window, factual and counterfactual.

    Args:
        jobs: the window's requests.
        servers: effective concurrency, at least 1.
        begin_seconds: when the window begins.
        end_seconds: when it ends.
    """

    def __init__(
        self, jobs: Sequence[Job], servers: int, begin_seconds: float, end_seconds: float
    ) -> None:
        self.jobs = sorted(jobs)[-REQUESTS_MAX:]
        self.servers = max(1, servers)
        self.utilization = _busy(self.jobs, begin_seconds, end_seconds) / self.servers
        self._factual = replay(self.jobs, self.servers) if self.jobs else Outcome(0.0, 0.0)

    def trusted(self) -> bool:
        """Whether the replay of the facts, begun with the backlog that the window began
        with, gives the observed mean."""
        if not self.jobs:
            return False
        observed = sum(j.queue_seconds + j.service_seconds for j in self.jobs) / len(self.jobs)
        begins = [j.arrival_seconds + j.queue_seconds for j in self.jobs[: self.servers]]
        backlog = self.jobs[0].queue_seconds > 0.001
        replayed = replay(self.jobs, self.servers, begins if backlog else ()).mean_seconds
        return abs(replayed - observed) <= REPLAY_TOLERANCE * observed

    def gain(self, removed: Sequence[float] | None = None, servers: int | None = None) -> Gain:
        """What removing `removed[i]` seconds from job i, or having more servers, gains.

        Both replays begin with an empty queue, so that a backlog from before the window
        does not count as a gain.
        """
        if not self.jobs:
            return Gain(0.0, 0.0, 0.0, trusted=False)
        jobs = self.jobs
        if removed is not None:
            jobs = [
                job._replace(service_seconds=max(0.0, job.service_seconds - seconds))
                for job, seconds in zip(jobs, removed, strict=True)
            ]
        servers = servers or self.servers
        after = replay(jobs, servers)
        before = self._factual
        work = sum(job.service_seconds for job in self.jobs) or 1.0
        left = sum(job.service_seconds for job in jobs) / work
        return Gain(
            _ratio(before.mean_seconds, after.mean_seconds),
            _ratio(before.p95_seconds, after.p95_seconds),
            self.utilization * left * self.servers / servers,
            self.trusted(),
        )


def _busy(jobs: Sequence[Job], begin_seconds: float, end_seconds: float) -> float:
    """Mean number of busy servers between two times."""
    busy = 0.0
    for job in jobs:
        begin = job.arrival_seconds + job.queue_seconds
        end = begin + job.service_seconds
        busy += max(0.0, min(end, end_seconds) - max(begin, begin_seconds))
    return busy / max(end_seconds - begin_seconds, 1e-9)


def _ratio(before: float, after: float) -> float:
    return max(0.0, 1.0 - after / before) if before > 0 else 0.0
