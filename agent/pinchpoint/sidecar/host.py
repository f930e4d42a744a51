"""What the agent itself can read: the machine, and its own costs."""

from __future__ import annotations

import time

import psutil

from pinchpoint.schema.samples import HostSample

NANOSECONDS = 1_000_000_000


def read_host(now_ns: int) -> HostSample:
    """CPU time of the machine since it was booted, all CPUs together."""
    times = psutil.cpu_times()
    # Time of guests is part of user time in /proc/stat.
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return HostSample(
        now_ns,
        0,
        cpus=psutil.cpu_count(),
        busy_ns=round(busy * NANOSECONDS),
        steal_ns=round(times.steal * NANOSECONDS),
        iowait_ns=round(times.iowait * NANOSECONDS),
    )


class OwnCosts:
    """CPU and memory of the agent's own process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.start_wall_seconds: float = self._process.create_time()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return time.process_time()

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return int(self._process.memory_info().rss)
