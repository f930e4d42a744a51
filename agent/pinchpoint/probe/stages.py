"""Named stages: the server's own code says what it is doing, `pinchpoint.stage("tokenise")`.

A `Stage` is shared by all who use its name and keeps no state of its passes, so it may be made
once and entered from anywhere. What is open is a chain of `_Open` in a context variable: each
thread and each asyncio task has its own, and a task that is started in a stage, or a thread
that runs in its context, begins inside it. Between processes nothing is shared.

While no probe runs, a stage reads two variables and does nothing. A process that uses stages
and never starts the probe imports this file and no other of the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pinchpoint.probe.guard import Part
    from pinchpoint.probe.recorder import Recorder

STAGES_MAX = 64
"""Names told apart in a process; beyond them a stage is `_OTHER`, whatever it is called."""

NAME_CHARS_MAX = 100

DEPTH_MAX = 64
"""Stages open within each other. A generator that is left in the middle of a `with` leaves its
stage open: the chain must not grow with every such one, and begins anew here."""

F = TypeVar("F", bound=Callable[..., Any])


class _Open:
    """A stage that has begun. `inner_ns` grows with every stage that ends inside it."""

    __slots__ = ("begin_ns", "depth", "inner_ns", "outer", "stage", "stages")

    def __init__(self, stages: Stages, stage: Stage, outer: _Open | None) -> None:
        if outer is not None and outer.depth >= DEPTH_MAX:
            outer = None
        self.stages = stages
        self.stage = stage
        self.outer = outer
        self.depth: int = 1 if outer is None else outer.depth + 1
        self.inner_ns = 0
        self.begin_ns = monotonic_ns()


_open: ContextVar[_Open | None] = ContextVar("pinchpoint_stage", default=None)


class Stages:
    """Writes the stages of this process.

    Args:
        part: the guard's part.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self._recorder: Recorder | None = None
        self._ids: dict[str, int] = {}

    def start(self, recorder: Recorder) -> None:
        """Records go to `recorder` from now on."""
        from pinchpoint.probe.thread_state import current, current_call
        from pinchpoint.schema.events import StageEvent
        from pinchpoint.schema.observations import NameKind

        self._current, self._current_call = current, current_call
        self._event, self._kind = StageEvent, NameKind.STAGE
        self._recorder = recorder
        _Running.stages = self

    def forget(self) -> None:
        """Stop; after a fork too, where the ring is the parent's."""
        self._recorder = None
        self._ids.clear()
        if _Running.stages is self:
            _Running.stages = None

    def begin(self, stage: Stage) -> _Open:
        """The calling context enters a stage."""
        opened = _Open(self, stage, _open.get())
        _open.set(opened)
        return opened

    def end(self, stage: Stage, innermost: _Open) -> None:
        """The calling context leaves a stage; what is still open inside it is dropped."""
        opened: _Open | None = innermost
        while opened is not None and opened.stage is not stage:
            opened = opened.outer
        if opened is not None:  # else entered while the probe was off, or in another context
            self.write(stage, *self.leave(opened))

    def leave(self, opened: _Open) -> tuple[int, int]:
        """Close what `begin` opened; wall time, and that without the stages inside it."""
        wall_ns = monotonic_ns() - opened.begin_ns
        outer = opened.outer
        _open.set(outer)
        if outer is not None:
            outer.inner_ns += wall_ns
        # Inner stages of several tasks at once may take longer than the one around them.
        return wall_ns, max(0, wall_ns - opened.inner_ns)

    def write(self, stage: Stage, wall_ns: int, self_ns: int) -> None:
        """Append a pass through a stage."""
        recorder = self._recorder
        if recorder is None or not self.part.enabled:
            return
        stage_id = self._ids.get(stage.name)
        if stage_id is None:
            stage_id = recorder.intern(self._kind, stage.name) if stage.named else 0
            self._ids[stage.name] = stage_id
        thread = self._current()
        call = self._current_call()
        method_id = call.method_id if call is not None else 0
        recorder.stage(
            self._event(stage_id, method_id, thread.native_id, monotonic_ns(), wall_ns, self_ns)
        )


class _Running:
    """What records stages now, if anything does."""

    stages: Stages | None = None


def running() -> Stages | None:
    """What records stages now; None while the probe is off."""
    stages = _Running.stages
    return stages if stages is not None and stages.part.enabled else None


class Stage:
    """A context manager, and a decorator for functions of every kind. `stage` makes them.

    Decorated, a function or a coroutine function is in the stage from its call to its return.
    A generator, plain or asynchronous, is in it while it runs and not while its consumer does;
    it is one pass, written at its end.
    """

    __slots__ = ("name", "named")

    def __init__(self, name: str, *, named: bool = True) -> None:
        self.name = name
        self.named = named

    def __enter__(self) -> None:
        stages = _Running.stages
        if stages is not None and stages.part.enabled:
            try:
                stages.begin(self)
            except Exception as error:
                stages.part.trip(error)

    def __exit__(self, *_error: object) -> None:
        # Whether the probe is on or not: what was entered is left.
        innermost = _open.get()
        if innermost is not None:
            try:
                innermost.stages.end(self, innermost)
            except Exception as error:
                innermost.stages.part.trip(error)

    def __call__(self, function: F) -> F:
        """Decorate a function.

        Raises:
            TypeError: it is not one.
        """
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        if not callable(function):
            raise TypeError(
                f'@pinchpoint.stage("{self.name}") decorates functions, '
                f"not an object of type {type(function).__name__}"
            )
        from pinchpoint.probe.stage_functions import staged

        return staged(self, function)


_stages: dict[str, Stage] = {}
_other = Stage("_OTHER", named=False)


def stage(name: str) -> Stage:
    """The stage of that name; see `pinchpoint.stage`."""
    try:
        found = _stages.get(name)
    except TypeError:  # a list, say
        found = None
    return found if found is not None else _make(name)


def _make(name: str) -> Stage:
    if not isinstance(name, str):
        raise TypeError(
            'pinchpoint.stage() takes the name of a stage, as in pinchpoint.stage("tokenise"), '
            f"not an object of type {type(name).__name__}"
        )
    name = name[:NAME_CHARS_MAX]
    if len(_stages) >= STAGES_MAX:
        return _stages.get(name, _other)
    return _stages.setdefault(name, Stage(name))
