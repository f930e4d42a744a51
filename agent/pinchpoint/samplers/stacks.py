"""Where requests are: a look at the innermost frames of their threads and tasks, about five times
a second.

Evidence, strongest first: the system call a thread sleeps in, the library its innermost frames
belong to, and what its current instruction calls. Code locations only; no variable is ever read.

The sampler holds the interpreter lock while it looks, so of a thread that runs Python code it
cannot tell whether it ran or waited for the lock: both are `python`. In CPython (3.10 to 3.13
looked at) a wait for that lock is a futex wait with a time limit, or on a plain mutex; such a one
counts as a wait for another lock only where the instruction is an `acquire`.

Free-threaded builds: `sys._current_frames()` stops the other threads for a moment.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import methodcaller
from types import CodeType, FrameType
from typing import Any, NamedTuple

from pinchpoint.samplers.called_name import WITH, CalledNames
from pinchpoint.samplers.code_origin import Origin, origin_of
from pinchpoint.samplers.kernel_wait import KernelView, KernelWait
from pinchpoint.samplers.source import Intern
from pinchpoint.samplers.task_chain import coroutine_of, follow, is_running
from pinchpoint.samplers.task_wait import categorise_task, shown
from pinchpoint.schema.events import StackEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import CATEGORY_INDEX

THREADS_MAX = 64
"""Threads looked at in one run, 20 us each; above it the looks take turns."""

FRAMES_MAX = 64
"""Frames walked outwards to find the server's own code."""

GLUE_FRAMES_MAX = 12
"""Frames of waiting standard library code between a client library and the innermost one."""

LOCATIONS_MAX = 512
"""Distinct locations; what comes later is id 0."""

INSTRUCTIONS_MAX = 4096
"""Instructions whose location is remembered; then all are worked out anew."""

LOCK_CALLS = frozenset({"acquire", "get", "join", "result", "wait", WITH, "__enter__"})
UNSURE_LOCK_CALLS = frozenset({"acquire"})
"""Every timed wait of the standard library ends in a lock's `acquire`; `get` and `join` are as
often a dictionary's and a string's."""

SLEEP_CALLS = frozenset({"sleep"})
SOCKET_CALLS = frozenset(
    {
        "accept", "connect", "poll", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg",
        "select", "sendall", "sendmsg", "sendto",
    }
)  # fmt: skip
GRPC_CALLS = frozenset({"next_event", "next_call_event"})
"""How a thread waits in the gRPC core, which sleeps on a futex with and without a limit."""

_CLIENTS = (Origin.CLIENT, Origin.GRPC_CLIENT)
_LIBRARIES = (*_CLIENTS, Origin.LIBRARY)


class ActiveThread(NamedTuple):
    """A thread that is handling a request now.

    `thread_id` is the interpreter's identity of it, `native_id` the kernel's.
    """

    thread_id: int
    native_id: int
    method_id: int
    stage: int


class ActiveTask(NamedTuple):
    """A task, or a coroutine, that is handling a request now."""

    task: Any
    method_id: int
    stage: int


class Seen(NamedTuple):
    """What is taken from a thread's frames; no frame is kept, it would keep variables alive."""

    code: CodeType
    offset: int
    behind: Origin
    """Whose wait it is: the first frame from the innermost that is not glue."""
    shown_code: CodeType
    shown_offset: int
    shown_line: int


class Wait(NamedTuple):
    """What is known of one thread before it is given a category."""

    kernel: KernelWait
    called: str | None
    leaf: Origin
    behind: Origin


class StackSampler:
    """Looks at the threads that are handling requests.

    Args:
        active: those threads, now, and the tasks of event loops.
        intern: names the locations.
        kernel: the kernel's view of threads.
        loops: the threads of the event loops: their `thread_id` and `native_id`.
    """

    def __init__(
        self,
        active: Callable[[], Sequence[ActiveThread | ActiveTask]],
        intern: Intern,
        kernel: KernelView | None = None,
        loops: Callable[[], Sequence[tuple[int, int]]] = tuple,
    ) -> None:
        self._active = active
        self._loops = loops
        self._kernel = kernel or KernelView()
        self._called = CalledNames()
        self._locations = _Locations(intern, self._called)
        self._turn = 0

    def sample(self, now_ns: int) -> list[StackEvent]:
        """One event for each that still is active, at most `THREADS_MAX`."""
        chosen = self._chosen(self._active())
        threads = [one for one in chosen if isinstance(one, ActiveThread)]
        tasks = [one for one in chosen if isinstance(one, ActiveTask)]
        loops = list(self._loops()) if tasks else []
        self._kernel.prepare((*(t.native_id for t in threads), *(n for _, n in loops)))
        events = [
            *(self._look(now_ns, thread) for thread in threads),
            *(self._look_at_task(now_ns, task, loops) for task in tasks),
        ]
        return [event for event in events if event is not None]

    def close(self) -> None:
        """Release the descriptors."""
        self._kernel.close()

    def _chosen(
        self, active: Sequence[ActiveThread | ActiveTask]
    ) -> Sequence[ActiveThread | ActiveTask]:
        if len(active) <= THREADS_MAX:
            return active
        start = self._turn % len(active)
        self._turn = start + THREADS_MAX
        return [*active[start:], *active[:start]][:THREADS_MAX]

    def _look(self, now_ns: int, thread: ActiveThread) -> StackEvent | None:
        # One snapshot a thread, and the kernel's word right after it: where threads compete for
        # the interpreter lock, every release of it here lets the others go on for 5 ms.
        seen = _see(thread.thread_id)
        kernel = self._kernel.look(thread.native_id)
        if seen is None or kernel is KernelWait.GONE:
            return None
        called = self._called.at(seen.code, seen.offset)
        leaf = origin_of(seen.code.co_filename)
        category = categorise(Wait(kernel, called, leaf, seen.behind))
        return StackEvent(
            CATEGORY_INDEX[category],
            thread.stage,
            thread.native_id,
            thread.method_id,
            self._locations.of(seen),
            now_ns,
        )

    def _look_at_task(
        self, now_ns: int, task: ActiveTask, loops: Sequence[tuple[int, int]]
    ) -> StackEvent | None:
        coroutine = coroutine_of(task.task)
        if is_running(coroutine):
            # With several loops it cannot be told on which.
            if len(loops) != 1:
                return None
            return self._look(now_ns, ActiveThread(*loops[0], task.method_id, task.stage))
        chain = follow(coroutine)
        awaited = None
        location_id = 0
        if chain.places:
            inner, place = chain.places[0], shown(chain.places)
            awaited = self._called.at(inner.code, inner.offset)
            location_id = self._locations.of(
                Seen(inner.code, inner.offset, Origin.GLUE, place.code, place.offset, place.line)
            )
        return StackEvent(
            CATEGORY_INDEX[categorise_task(chain, awaited)],
            task.stage,
            loops[0][1] if len(loops) == 1 else 0,
            task.method_id,
            location_id,
            now_ns,
        )


def categorise(wait: Wait) -> str:
    """The category, one of `terms.WAIT_CATEGORIES`, that the evidence supports."""
    if wait.kernel is KernelWait.RUNNING:
        return "torch" if wait.leaf is Origin.TORCH else "running"
    if wait.kernel is KernelWait.DISK:
        return "disk"
    if wait.kernel is KernelWait.OTHER:
        return "torch" if wait.leaf is Origin.TORCH else "unknown"
    kind = _waits_for(wait)
    if kind is None:
        return "torch" if wait.leaf is Origin.TORCH else "python"
    if wait.behind in _CLIENTS:
        return "client"
    if kind == "lock" and wait.behind is Origin.GRPC_SERVER:
        # The server's half of a stream waits for the peer's next message or for flow control.
        return "socket"
    return kind


def _waits_for(wait: Wait) -> str | None:
    """socket, sleep or lock; None where there is no evidence of a wait."""
    if wait.kernel is KernelWait.SOCKET:
        return "socket"
    if wait.kernel is KernelWait.SLEEP:
        return "sleep"
    if wait.called in GRPC_CALLS and wait.leaf is Origin.GRPC_CLIENT:
        return "socket"
    if wait.kernel is KernelWait.UNREADABLE:
        return _named_wait(wait)
    locks = LOCK_CALLS if wait.kernel is KernelWait.FUTEX else UNSURE_LOCK_CALLS
    return "lock" if wait.called in locks else None


def _named_wait(wait: Wait) -> str | None:
    """What the called name alone supports, where the kernel says nothing."""
    if wait.called in SLEEP_CALLS:
        return "sleep"
    if wait.called in SOCKET_CALLS or (wait.called == "read" and wait.leaf is Origin.GLUE):
        return "socket"
    return "lock" if wait.called in ("acquire", WITH) else None


_COLLECTS_WHERE_IT_ALLOCATES = sys.version_info < (3, 11, 9)


_CALL = methodcaller("__call__")


def _frame_of(
    thread_id: int, snapshot: Callable[[], dict[int, FrameType]] = sys._current_frames
) -> FrameType | None:
    """The thread's innermost frame.

    Before 3.11.9 an allocation inside `sys._current_frames()` can start a collection while the
    interpreter's thread list is locked. If a callback or finaliser then lets another thread
    run, and that one starts or ends a thread, the whole process is stuck for ever
    (CPython issue 106883, repaired in 3.11.9 by what is done here). The three calls are made
    by one: in between, the server could set the collector itself.
    """
    # The snapshot holds this very frame: kept, it would be a reference cycle that keeps the
    # variables of every thread alive until the next collection.
    if not (_COLLECTS_WHERE_IT_ALLOCATES and gc.isenabled()):
        return snapshot().get(thread_id)
    frames: dict[int, FrameType] = tuple(map(_CALL, (gc.disable, snapshot, gc.enable)))[1]
    frame = frames.get(thread_id)
    frames.clear()
    return frame


def _see(thread_id: int) -> Seen | None:
    frame = _frame_of(thread_id)
    if frame is None:
        return None
    shown = _shown(frame)
    return Seen(
        frame.f_code,
        frame.f_lasti,
        _behind(frame),
        shown.f_code,
        shown.f_lasti,
        shown.f_lineno,
    )


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _behind(frame: FrameType) -> Origin:
    origin = Origin.GLUE
    for outer in islice(_outwards(frame), GLUE_FRAMES_MAX):
        origin = origin_of(outer.f_code.co_filename)
        if origin is not Origin.GLUE:
            break
    return origin


class _Locations:
    """Ids of code locations: `file.py:LINE function -> called`."""

    def __init__(self, intern: Intern, called: CalledNames) -> None:
        self._intern = intern
        self._called = called
        self._ids: dict[str, int] = {}
        # As in CalledNames: by id, with the code kept.
        self._known: dict[tuple[int, int], tuple[CodeType, int]] = {}

    def of(self, seen: Seen) -> int:
        """The id of the location that is shown for a thread."""
        key = (id(seen.shown_code), seen.shown_offset)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= INSTRUCTIONS_MAX:
                self._known.clear()
            found = self._known[key] = (seen.shown_code, self._id(self._text(seen)))
        return found[1]

    def _id(self, text: str) -> int:
        known = self._ids.get(text)
        if known is None:
            if len(self._ids) >= LOCATIONS_MAX:
                return 0
            known = self._ids[text] = self._intern(NameKind.LOCATION, text)
        return known

    def _text(self, seen: Seen) -> str:
        code = seen.shown_code
        file = "/".join(code.co_filename.rsplit("/", 2)[-2:])
        called = self._called.at(code, seen.shown_offset)
        suffix = f" -> {called}" if called else ""
        return f"{file}:{seen.shown_line} {code.co_name}{suffix}"


def _shown(leaf: FrameType) -> FrameType:
    """The server's own innermost frame; of a server that is itself installed as a package, the
    innermost of any library; else the innermost of all."""
    library = None
    for frame in islice(_outwards(leaf), FRAMES_MAX):
        origin = origin_of(frame.f_code.co_filename)
        if origin is Origin.OWN:
            return frame
        if library is None and origin in _LIBRARIES:
            library = frame
    return library or leaf
