"""A coroutine driven step by step, so that its time on the event loop is told from its waits.

What is sent, thrown, returned, raised and yielded passes through as it is; the task that drives
it, its context and its cancellation are untouched.
"""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Generator
from typing import Any

from pinchpoint.probe.guard import Part
from pinchpoint.probe.stage_clocks import StageClocks
from pinchpoint.probe.thread_state import ThreadState


class TaskClocks(StageClocks):
    """Clocks that the event loop and worker threads share.

    While a worker has them, the steps of the request's task leave them alone.
    """

    __slots__ = ("_lent", "_lock")

    def __init__(self, thread: ThreadState, stage: int, gc_ns: int) -> None:
        super().__init__(thread, stage, 0, gc_ns)
        self._lent = False
        self._lock = threading.Lock()

    def resume(self) -> None:
        """A step begins, perhaps on another thread."""
        if not self._lent:
            super().resume()

    def suspend(self) -> None:
        """The step is over."""
        if not self._lent:
            super().suspend()

    def switches(self) -> tuple[int, int]:
        """Not told: those of the loop's thread are everybody's."""
        return 0, 0

    def lend(self, stage: int) -> None:
        """The request is handed to a worker; until that has it, it is in `stage`."""
        self.enter(stage)
        self.suspend()
        self._lent = True

    def give_back(self) -> None:
        """The worker is done with it, or never got it."""
        if self._lent:
            self._lent = False
            super().suspend()

    def _charge(self, thread: ThreadState) -> None:
        # Threads that the request's task has started may come to a boundary at once.
        with self._lock:
            super()._charge(thread)


class Stepped:
    """What `stepped` returns.

    Attributes:
        cr_await: the coroutine, for who follows the chain of what a task waits for.
    """

    __slots__ = ("_begun", "_clocks", "_part", "cr_await")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], clocks: StageClocks, part: Part | None
    ) -> None:
        self.cr_await = coroutine
        self._clocks: StageClocks | None = clocks
        self._part = part
        self._begun = True

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # as much of a generator as `await` uses

    def __iter__(self) -> Stepped:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Run the next step."""
        self._begin()
        try:
            return self.cr_await.send(value)
        finally:
            self._end()

    def throw(self, *error: Any) -> Any:
        """Run the next step, which begins with an exception."""
        self._begin()
        try:
            return self.cr_await.throw(*error)
        finally:
            self._end()

    def close(self) -> None:
        """End the coroutine where it stands."""
        self.cr_await.close()

    def _begin(self) -> None:
        if self._begun:
            self._begun = False
        elif self._clocks is not None:
            try:
                self._clocks.resume()
            except Exception as error:
                self._fail(error)

    def _end(self) -> None:
        if self._clocks is not None:
            try:
                self._clocks.suspend()
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._clocks = None
        if self._part is not None:
            self._part.trip(error)


def stepped(
    coroutine: Coroutine[Any, Any, Any], clocks: StageClocks, part: Part | None = None
) -> Stepped:
    """Await this in place of a coroutine: `clocks` run during its steps alone.

    Args:
        coroutine: not started yet.
        clocks: of the request, begun in the present step; after an error they are left alone.
        part: of the guard, which is told of that error.
    """
    return Stepped(coroutine, clocks, part)
