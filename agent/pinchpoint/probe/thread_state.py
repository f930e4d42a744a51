"""What the probe keeps for each thread that serves requests: its clocks and its request."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from pinchpoint.probe.call import Call


class Reading(NamedTuple):
    """Wall, on-CPU and run-queue time of one thread, in nanoseconds."""

    wall_ns: int
    cpu_ns: int
    runqueue_ns: int


_serving: dict[int, ref[ThreadState]] = {}


def _nothing_to_adopt(_thread: ThreadState) -> Call:
    raise LookupError("no plain RPC")


def serving_ids() -> set[int]:
    """Native ids of the living threads that have served requests or run models."""
    return set(_serving)


def plain_states() -> list[Any]:
    """Grpcio's states of the plain RPCs that threads are running now."""
    states = [state.plain for known in list(_serving.values()) if (state := known()) is not None]
    return [plain for plain in states if plain is not None]


class ThreadState:
    """The calling thread's identifiers, the request it serves and its scheduler clock.

    `call` is the request that the thread serves; a sync RPC that needs no object yet is in
    `plain`, and `adopt` makes one of it (`current_call` does both).

    The run-queue delay comes from `schedstat` through a cached descriptor (0.9 µs a
    read). Where the kernel has none it reads as 0 and the delay shows up as blocked.
    """

    __slots__ = (
        "__weakref__",
        "_schedstat_fd",
        "adopt",
        "call",
        "forward_depth",
        "ident",
        "native_id",
        "plain",
    )

    def __init__(self) -> None:
        self._schedstat_fd = -1
        self.ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        self.call: Call | None = None
        self.plain: Any = None
        self.adopt: Callable[[ThreadState], Call] = _nothing_to_adopt
        self.forward_depth = 0
        _serving[self.native_id] = ref(self)
        try:
            self._schedstat_fd = os.open(
                f"/proc/self/task/{self.native_id}/schedstat", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError:
            pass

    def runqueue_ns(self) -> int:
        """How long the thread has been runnable without a CPU so far. About 1 µs."""
        if self._schedstat_fd < 0:
            return 0
        return int(os.pread(self._schedstat_fd, 64, 0).split()[1])

    def read(self) -> Reading:
        """All three clocks, now. About 2 µs."""
        return Reading(monotonic_ns(), thread_time_ns(), self.runqueue_ns())

    def __del__(self, _serving: dict[int, Any] = _serving, _close: Any = os.close) -> None:
        # Bound early: at interpreter exit the module's globals may be gone.
        _serving.pop(self.native_id, None)
        if self._schedstat_fd >= 0:
            _close(self._schedstat_fd)


class _Threads(threading.local):
    def __init__(self) -> None:
        self.state = ThreadState()


threads = _Threads()
"""`threads.state` is the calling thread's; made at its first use."""


def current() -> ThreadState:
    """The calling thread's state, made at its first use."""
    return threads.state


call_of_context: ContextVar[Call | None] = ContextVar("pinchpoint_call", default=None)
"""The request that the current task, or a thread that runs in its context, works for."""


def current_call() -> Call | None:
    """The request that the calling code works for, if any."""
    thread = threads.state
    if thread.plain is not None:
        return thread.adopt(thread)
    call = thread.call or call_of_context.get()
    return None if call is None or call.over else call


def forget() -> None:
    """After a fork: the child's only thread has another id, and new clocks."""
    _serving.clear()
    threads.__dict__.clear()
    threads.state = ThreadState()
