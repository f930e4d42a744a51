"""What the kernel says of a process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

SHARED_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where rings are made: None for the default of temporary files."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat behind the name (proc(5): 14 and 15)."""


class CpuSeconds(NamedTuple):
    """CPU time of a process, all of its threads, the ended ones too."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.user + self.system


def cpu_seconds(process: int) -> CpuSeconds:
    """What a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return CpuSeconds(
        int(fields[_UTIME]) / _TICKS_PER_SECOND, int(fields[_STIME]) / _TICKS_PER_SECOND
    )


def resident_bytes(process: int | str) -> int:
    """Resident memory, the mapped ring included."""
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
