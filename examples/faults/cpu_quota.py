"""The server may use only part of the CPU it needs, as under a limit that is set too low."""

from __future__ import annotations

import os
import time
from pathlib import Path

from examples.faults.cgroup import CpuGroup, why_unavailable
from examples.faults.rig import FaultRig

# Requests then pile up until the fault is removed, but slowly enough to drain in a few seconds.
_QUOTA_RATIO = 0.7
_MIN_QUOTA_CORES = 0.05
_MEASURE_S = 3.0


class CpuQuota:
    """Moves the server into a control group with a quota, from outside and while it serves."""

    name = "cpu-quota"
    label = "cpu_quota_throttling"

    def __init__(self) -> None:
        self._group: CpuGroup | None = None

    def available(self) -> str | None:
        """Needs the right to create a CPU control group."""
        return why_unavailable()

    def inject(self, rig: FaultRig) -> None:
        """Measure what the server uses now and allow it a part of that."""
        if self._group is not None:
            return
        used_cores = _used_cores(rig.server_pid)
        self._group = CpuGroup(rig.server_pid, f"pinchpoint-demo-{os.getpid()}")
        self._group.limit(max(_MIN_QUOTA_CORES, _QUOTA_RATIO * used_cores))
        self._group.add(rig.server_pid)

    def remove(self, rig: FaultRig) -> None:
        """Lift the quota, move the server back and remove the group."""
        group, self._group = self._group, None
        if group is not None:
            group.close()


def _used_cores(pid: int) -> float:
    before_s = _cpu_seconds(pid)
    time.sleep(_MEASURE_S)
    return (_cpu_seconds(pid) - before_s) / _MEASURE_S


def _cpu_seconds(pid: int) -> float:
    # The name of the process, in parentheses, may itself contain spaces and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    return (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")
