"""Functions of every kind, put into a stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, cast

from pinchpoint.probe.stages import Stage, running

GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200
"""Flags of a code object. As in `inspect`, whose import takes 10 ms."""

F = TypeVar("F", bound=Callable[..., Any])


def staged(stage: Stage, function: F) -> F:
    """A function of the same kind, and with the same result, that is in the stage."""
    flags = _code_flags(function)
    if flags & COROUTINE:
        wrapper = _coroutine(stage, function)
    elif flags & GENERATOR:
        wrapper = _generator(stage, function)
    elif flags & ASYNC_GENERATOR:
        wrapper = _async_generator(stage, function)
    else:
        wrapper = _plain(stage, function)
    return cast("F", wraps(function)(wrapper))


def _code_flags(function: Any) -> int:
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(vars(type(function)).get("__call__"), "__code__", None)
    return getattr(code, "co_flags", 0)


def _plain(stage: Stage, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if running() is None:
            return function(*args, **kwargs)
        with stage:
            return function(*args, **kwargs)

    return wrapper


def _coroutine(stage: Stage, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with stage:
            return await function(*args, **kwargs)

    return wrapper


def _generator(stage: Stage, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        if running() is None:
            return (yield from generator)
        steps = _Steps(stage)
        step, argument = generator.send, None
        try:
            while True:
                with steps:
                    try:
                        value = step(argument)
                    except StopIteration as stop:
                        return stop.value
                try:
                    step, argument = generator.send, (yield value)
                except GeneratorExit:
                    with steps:
                        generator.close()
                    raise
                except BaseException as error:
                    step, argument = generator.throw, error
        finally:
            steps.end()

    return wrapper


def _async_generator(stage: Stage, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        steps = _Steps(stage)
        step, argument = generator.asend, None
        try:
            while True:
                with steps:
                    try:
                        value = await step(argument)
                    except StopAsyncIteration:
                        return
                try:
                    step, argument = generator.asend, (yield value)
                except GeneratorExit:
                    with steps:
                        await generator.aclose()
                    raise
                except BaseException as error:
                    step, argument = generator.athrow, error
        finally:
            steps.end()

    return wrapper


class _Steps:
    """The pass of one generator: entered for every step that it takes, written at the end."""

    __slots__ = ("_opened", "_self_ns", "_stage", "_stages", "_wall_ns")

    def __init__(self, stage: Stage) -> None:
        self._stages = running()
        self._stage = stage
        self._opened: Any = None
        self._wall_ns = self._self_ns = 0

    def __enter__(self) -> None:
        stages = self._stages
        if stages is not None and stages.part.enabled:
            try:
                self._opened = stages.begin(self._stage)
            except Exception as error:
                stages.part.trip(error)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        stages, opened = self._stages, self._opened
        if stages is not None and opened is not None:
            self._opened = None
            try:
                wall_ns, self_ns = stages.leave(opened)
                self._wall_ns += wall_ns
                self._self_ns += self_ns
            except Exception as error:
                stages.part.trip(error)

    def end(self) -> None:
        """The generator has ended, or was closed."""
        stages = self._stages
        if stages is not None and self._wall_ns:
            try:
                stages.write(self._stage, self._wall_ns, self._self_ns)
            except Exception as error:
                stages.part.trip(error)
