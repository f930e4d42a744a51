"""What the agent itself can read: the machine, and its own costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil

from pinchpoint.schema.samples import HostSample

NANOSECONDS = 1_000_000_000


class Host:
    """The machine as any container sees it.

    Args:
        say: takes one sentence for the operator about each part that cannot be read.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def read(self, now_ns: int) -> HostSample:
        """What can be read now; the other fields are absent."""
        values: dict[str, float | None] = {}
        for part, read in (("CPU time", _cpu), ("load", _load), ("memory", _memory)):
            try:
                values.update(read())
            except Exception as error:  # psutil raises what its parsing raises
                if part not in self._said:
                    self._said.add(part)
                    self._say(
                        f"the machine's {part} cannot be read ({type(error).__name__}: {error}); "
                        "its series are left out"
                    )
        return HostSample(now_ns, 0, **values)


def _cpu() -> Mapping[str, float | None]:
    """CPU time since the machine was booted, all CPUs together."""
    times = psutil.cpu_times()
    # Time of guests is part of user time in /proc/stat.
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return {
        "cpus": psutil.cpu_count(),
        "busy_ns": round(busy * NANOSECONDS),
        "steal_ns": round(times.steal * NANOSECONDS),
        "iowait_ns": round(times.iowait * NANOSECONDS),
    }


def _load() -> Mapping[str, float]:
    return dict(zip(("load_1", "load_5", "load_15"), psutil.getloadavg(), strict=True))


def _memory() -> Mapping[str, float]:
    memory = psutil.virtual_memory()
    return {
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
    }


class OwnCosts:
    """CPU and memory of the agent's own process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.start_wall_seconds = time.time()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return time.process_time()

    def resident_bytes(self) -> int | None:
        """Resident memory now; None where it cannot be read."""
        try:
            return int(self._process.memory_info().rss)
        except Exception:  # as of the machine
            return None
