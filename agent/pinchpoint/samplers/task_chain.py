"""What a suspended coroutine waits for: the coroutines below it, and the future at the end.

Only code locations are taken from frames. The chain is followed through the objects that
coroutines await; where the interpreter does not show one (an asynchronous generator behind its
`__anext__`, the future behind its iterator), through the collector's references.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any, NamedTuple

LINKS_MAX = 128
"""Links followed; a longer chain is cut."""

_NEXT = ("cr_await", "gi_yieldfrom", "ag_await")
_FRAME = ("cr_frame", "gi_frame", "ag_frame")
_RUNNING = ("cr_running", "gi_running", "ag_running")
_NATIVE = ".pxi"
"""The end of the file names in the code of grpcio's Cython coroutines."""

_HIDES_A_TASK = "/asyncio/tasks.py"
"""`wait_for`, before 3.12, awaits a future of its own while a task of its own does the work."""


class Place(NamedTuple):
    """Where one frame of the chain rests."""

    code: CodeType
    offset: int
    line: int


class Chain(NamedTuple):
    """A task that does not run.

    Attributes:
        places: of its Python frames, the innermost first.
        native: whether it waits in grpcio's Cython coroutines below them.
        ready: nothing keeps it but the event loop.
    """

    places: list[Place]
    native: bool
    ready: bool


def coroutine_of(task: Any) -> Any:
    """The outermost coroutine of a task; a coroutine is its own."""
    return task.get_coro() if _has(task, "get_coro") else task


def is_running(coroutine: Any) -> bool:
    """Whether a coroutine is in the middle of a step."""
    return bool(_first(coroutine, _RUNNING))


def follow(coroutine: Any) -> Chain:
    """The chain below a coroutine that does not run."""
    places: list[Place] = []
    native = False
    awaitable, future = coroutine, None
    for _ in range(LINKS_MAX):
        frame = _first(awaitable, _FRAME)
        if isinstance(frame, FrameType):
            native = frame.f_code.co_filename.endswith(_NATIVE)
            if not native:
                places.append(Place(frame.f_code, frame.f_lasti, frame.f_lineno))
        following = _first(awaitable, _NEXT)
        if following is None and not _links(awaitable):
            following = _coroutine_among(gc.get_referents(awaitable))
        if following is None:
            break
        future = _future_behind(following)
        if future is not None:
            following = _task_behind(future, awaitable, places)
            if following is None:
                break
        awaitable = following
    places.reverse()
    return Chain(places, native, future is None or future.done())


# Types are asked, not objects: what the server awaits may have a `__getattr__` of its own.


def _has(thing: Any, name: str) -> bool:
    return hasattr(type(thing), name)


def _first(thing: Any, names: Iterable[str]) -> Any:
    for name in names:
        if _has(thing, name):
            return getattr(thing, name)
    return None


def _links(thing: Any) -> bool:
    return any(_has(thing, name) for name in _NEXT)


def _coroutine_among(things: Iterable[Any]) -> Any:
    return next((thing for thing in things if _links(thing)), None)


def _is_future(thing: Any) -> bool:
    return _has(thing, "_asyncio_future_blocking")


def _future_behind(awaitable: Any) -> Any:
    """The future whose iterator this is, if it is one's."""
    if _links(awaitable):
        return None
    if _is_future(awaitable):
        return awaitable
    return next((thing for thing in gc.get_referents(awaitable) if _is_future(thing)), None)


def _task_behind(future: Any, awaiting: Any, places: list[Place]) -> Any:
    """The coroutine of the task that will settle a future, where it can be told."""
    if type(future).__name__ == "_GatheringFuture":
        future = next((child for child in future._children if not child.done()), future)
    if _has(future, "get_coro"):
        return None if future.done() else future.get_coro()
    if places and places[-1].code.co_filename.endswith(_HIDES_A_TASK):
        held = gc.get_referents(awaiting)
        frames = [thing for thing in held if isinstance(thing, FrameType)]  # before 3.11
        for thing in (*held, *gc.get_referents(*frames)):
            if _has(thing, "get_coro") and not thing.done():
                return thing.get_coro()
    return None
