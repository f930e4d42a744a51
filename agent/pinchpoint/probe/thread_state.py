"""What the probe keeps for each thread that serves requests: its clocks and its request."""

from __future__ import annotations

import os
import threading
from time import monotonic_ns, thread_time_ns
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pinchpoint.probe.call import Call


class Reading(NamedTuple):
    """Wall, on-CPU and run-queue time of one thread, in nanoseconds."""

    wall_ns: int
    cpu_ns: int
    runqueue_ns: int


_serving: set[int] = set()


def serving_ids() -> set[int]:
    """Native ids of the living threads that have served requests or run models."""
    return set(_serving)


class ThreadState:
    """The calling thread's identifiers, the request it serves and its scheduler clock.

    The run-queue delay comes from `schedstat` through a cached descriptor (0.9 µs a
    read). Where the kernel has none it reads as 0 and the delay shows up as blocked.
    """

    __slots__ = ("_schedstat_fd", "call", "forward_depth", "ident", "native_id")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        self.call: Call | None = None
        self.forward_depth = 0
        _serving.add(self.native_id)
        try:
            self._schedstat_fd = os.open(
                f"/proc/self/task/{self.native_id}/schedstat", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError:
            self._schedstat_fd = -1

    def read(self) -> Reading:
        """All three clocks, now. About 2 µs."""
        runqueue_ns = 0
        if self._schedstat_fd >= 0:
            runqueue_ns = int(os.pread(self._schedstat_fd, 64, 0).split()[1])
        return Reading(monotonic_ns(), thread_time_ns(), runqueue_ns)

    def __del__(self, _serving: set[int] = _serving) -> None:
        # Bound early: at interpreter exit the module's globals may be gone.
        _serving.discard(self.native_id)
        if self._schedstat_fd >= 0:
            os.close(self._schedstat_fd)


class _Threads(threading.local):
    def __init__(self) -> None:
        self.state = ThreadState()


_threads = _Threads()


def current() -> ThreadState:
    """The calling thread's state, made at its first use."""
    return _threads.state


def forget() -> None:
    """After a fork: the child's only thread has another id, and new clocks."""
    _serving.clear()
    _threads.__dict__.clear()
    _threads.state = ThreadState()
