"""The worker threads of asynchronous applications: `anyio.to_thread`, which Starlette and FastAPI
run sync endpoints, dependencies and files in, 40 at a time unless somebody says otherwise.

The wait for a free thread is the request's `queue`, until its first forward or the beginning of
its response; whatever waits later is a part of what the handler does. `asyncio.to_thread` and
executors are not seen: their time is the handler's, blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from types import ModuleType
from typing import Any

from pinchpoint.probe.asgi_request import HttpCall
from pinchpoint.probe.call import QUEUE
from pinchpoint.probe.guard import Part
from pinchpoint.probe.patches import Patches
from pinchpoint.probe.thread_state import call_of_context, current


class ThreadPool:
    """The threads of this process' event loops.

    Args:
        part: the guard's part.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._limiter: Any = None

    def watch(self, to_thread: ModuleType, patches: Patches) -> None:
        """Patch `anyio.to_thread`."""
        original = to_thread.run_sync
        part = self._part

        async def run_sync(func: Any, *args: Any, **kwargs: Any) -> Any:
            work = None
            if part.enabled:
                try:
                    if self._limiter is None:
                        self._limiter = to_thread.current_default_thread_limiter()
                    work = self._lend(func)
                except Exception as error:
                    part.trip(error)
            if work is None:
                return await original(func, *args, **kwargs)
            try:
                return await original(work.run, *args, **kwargs)
            finally:
                try:
                    work.settle()
                except Exception as error:
                    part.trip(error)

        patches.replace(to_thread, "run_sync", run_sync)

    def workers(self) -> int | None:
        """Threads that may run at once on the loop that first asked for one, if one did."""
        tokens = getattr(self._limiter, "total_tokens", None)
        return tokens if isinstance(tokens, int) else None

    def forget(self) -> None:
        """After a fork: the parent's loop is not the child's."""
        self._limiter = None

    def _lend(self, func: Callable[..., Any]) -> Work | None:
        call = call_of_context.get()
        if not isinstance(call, HttpCall) or call.ended or call.lent:
            return None
        return Work(self._part, call, func)


class Work:
    """What a request asks of a worker thread, from the asking to its end."""

    def __init__(self, part: Part, call: HttpCall, func: Callable[..., Any]) -> None:
        self._part = part
        self._call = call
        self._func = func
        self._stage = call.stage
        self._waits = call.before_work
        self._begun_ns = 0
        self._asked_ns = monotonic_ns()
        call.lent = True
        stage = QUEUE if self._waits else call.stage
        call.stage = stage
        self._clocks = clocks = call.task_clocks
        if clocks is not None:
            clocks.lend(stage)

    def run(self, *args: Any) -> Any:
        """Runs on the worker, in the context of the request."""
        call, thread = self._call, None
        if self._part.enabled:
            try:
                thread = current()
                self._begin(call)
                call.thread = thread
                thread.call = call
            except Exception as error:
                self._part.trip(error)
        try:
            return self._func(*args)
        finally:
            if thread is not None:
                try:
                    thread.call = call.thread = None
                    self._give_back()
                except Exception as error:
                    self._part.trip(error)

    def _begin(self, call: HttpCall) -> None:
        self._begun_ns = monotonic_ns()
        call.stage = self._stage
        if self._clocks is not None:
            self._clocks.enter(self._stage)

    def settle(self) -> None:
        """The request goes on, on its loop."""
        call = self._call
        call.lent = False
        self._give_back()
        if not self._begun_ns:
            call.stage = self._stage
        elif self._waits and not call.ended:
            call.waited(self._begun_ns - self._asked_ns)

    def _give_back(self) -> None:
        if self._clocks is not None:
            self._clocks.give_back()
