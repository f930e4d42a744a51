from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import pytest

from pinchpoint.probe.guard import Part
from pinchpoint.probe.stepped import TaskClocks, stepped
from pinchpoint.probe.thread_state import current
from pinchpoint.schema.terms import STAGE_INDEX

HANDLER = STAGE_INDEX["handler"]
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


def clocks() -> TaskClocks:
    return TaskClocks(current(), HANDLER, 0)


def run(coroutine: Any) -> Any:
    async def main() -> Any:
        return await stepped(coroutine, clocks(), Part("test"))

    return asyncio.run(main())


def compute(seconds: float) -> int:
    """Use the CPU for so long; how long that was, in nanoseconds of the thread's own clock."""
    begin_ns = time.thread_time_ns()
    while time.thread_time_ns() - begin_ns < seconds * 1e9:
        pass
    return time.thread_time_ns() - begin_ns


def test_results_and_exceptions_pass_through() -> None:
    """And nothing else."""

    async def good() -> int:
        await asyncio.sleep(0)
        return 7

    async def bad() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert run(good()) == 7
    with pytest.raises(KeyError, match="x"):
        run(bad())


def test_a_cancellation_arrives_and_may_be_refused() -> None:
    """The coroutine is thrown what its task is."""

    async def stubborn() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            return str(error)
        return ""

    async def main() -> str:
        async def within() -> str:
            return await stepped(stubborn(), clocks())  # type: ignore[no-any-return]

        task = asyncio.create_task(within())
        await asyncio.sleep(0)
        task.cancel("enough")
        return await task

    assert asyncio.run(main()) == "enough"


def test_task_and_context_are_those_of_the_awaiting_task() -> None:
    """What is set within is seen after it."""

    async def within() -> Any:
        VARIABLE.set("set")
        return asyncio.current_task()

    async def main() -> bool:
        task = await stepped(within(), clocks())
        return task is asyncio.current_task() and VARIABLE.get() == "set"

    assert asyncio.run(main())


def test_only_the_steps_are_on_the_clock() -> None:
    """The thread's other work is not; the wall runs on."""
    own_ns: list[int] = []
    others_ns: list[int] = []

    async def own() -> None:
        own_ns.append(compute(0.03))
        await asyncio.sleep(0)
        own_ns.append(compute(0.03))
        await asyncio.sleep(0)

    async def main() -> TaskClocks:
        measured = clocks()

        async def within() -> None:
            await stepped(own(), measured)

        async def other() -> None:
            for _ in range(2):
                others_ns.append(compute(0.1))
                await asyncio.sleep(0)

        await asyncio.gather(within(), other())
        return measured

    all_ns = -time.thread_time_ns()
    wall_ns, cpu_ns, _ = asyncio.run(main()).times[HANDLER * 3 : HANDLER * 3 + 3]
    all_ns += time.thread_time_ns()
    assert sum(own_ns) <= cpu_ns <= all_ns - sum(others_ns)
    assert wall_ns >= sum(own_ns) + sum(others_ns)


def test_while_a_worker_has_them_steps_leave_the_clocks_alone() -> None:
    """Until they are given back."""
    computed_ns: list[int] = []

    async def own(measured: TaskClocks) -> None:
        measured.lend(HANDLER)
        await asyncio.sleep(0)
        computed_ns.append(compute(0.05))
        await asyncio.sleep(0)
        measured.give_back()

    async def main() -> TaskClocks:
        measured = clocks()
        await stepped(own(measured), measured)
        return measured

    assert asyncio.run(main()).times[HANDLER * 3 + 1] < computed_ns[0]


def test_clocks_that_fail_are_told_to_the_guard_and_left_alone() -> None:
    """The coroutine goes on."""

    class Failing(TaskClocks):
        __slots__ = ()

        def suspend(self) -> None:
            raise RuntimeError("broken")

    async def own() -> int:
        await asyncio.sleep(0)
        return 1

    async def main() -> int:
        return await stepped(own(), Failing(current(), HANDLER, 0), part)  # type: ignore[no-any-return]

    part = Part("test")
    assert asyncio.run(main()) == 1
    assert (part.errors, part.enabled) == (1, False)
