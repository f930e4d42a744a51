"""What the scheduler knows of one task: /proc/PID/task/TID/schedstat.

The file of the process (/proc/PID/schedstat) is its first thread's alone, so tasks are read one
by one. It works with CONFIG_SCHEDSTATS off; it needs CONFIG_SCHED_INFO.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_READ_BYTES = 64
"""Three decimal numbers of at most 20 digits."""


class TaskTimes(NamedTuple):
    """Time on a CPU and time runnable without one, nanoseconds since the task began.

    `slices` counts its turns on a CPU; 0 for a task that runs means that the kernel keeps
    no such accounts.
    """

    cpu_ns: int
    runqueue_ns: int
    slices: int


def open_schedstat(path: str) -> int:
    """A descriptor for `read_schedstat`. /proc/thread-self/schedstat is the caller's own.

    Raises:
        OSError: the task is gone or the kernel has no such file.
    """
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def read_schedstat(fd: int) -> TaskTimes:
    """The task's times now; about 1.5 us.

    Raises:
        OSError: the task is gone (ESRCH).
    """
    cpu, runqueue, slices = os.pread(fd, _READ_BYTES, 0).split()
    return TaskTimes(int(cpu), int(runqueue), int(slices))
