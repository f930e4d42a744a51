from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from pinchpoint.samplers.code_origin import Origin, origin_of
from pinchpoint.samplers.stacks import ActiveTask, StackSampler
from pinchpoint.samplers.task_chain import LINKS_MAX, follow
from pinchpoint.schema.terms import STAGE_INDEX, WAIT_CATEGORIES
from tests.support.aio_servers import running_loop
from tests.unit.samplers.support import Names, until

HANDLER = STAGE_INDEX["handler"]
LIMIT_SECONDS = 30.0


def looked_at(
    work: Callable[[], Coroutine[Any, Any, Any]], wanted: str, *, as_coroutine: bool = False
) -> str:
    """The location of a task that does `work`, once it has settled in the wanted category."""
    names = Names()
    with running_loop() as loop:
        task = asyncio.run_coroutine_threadsafe(_task(work), loop).result(LIMIT_SECONDS)
        shown: Any = task.get_coro() if as_coroutine else task
        thread = _thread_of(loop)
        sampler = StackSampler(
            lambda: [ActiveTask(shown, 7, HANDLER)], names, loops=lambda: [thread]
        )
        events: list[Any] = []

        def category() -> str:
            events[:] = sampler.sample(5)
            return str(WAIT_CATEGORIES[events[0].category])

        try:
            assert until(lambda: category() == wanted), category()
            location: str = names.text(events[0].location_id)
            assert (events[0].method_id, events[0].stage) == (7, HANDLER)
        finally:
            loop.call_soon_threadsafe(task.cancel)
            until(task.done)
            sampler.close()
    return location


async def _task(work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(work())


def _thread_of(loop: asyncio.AbstractEventLoop) -> tuple[int, int]:
    async def ids() -> tuple[int, int]:
        return threading.get_ident(), threading.get_native_id()

    return asyncio.run_coroutine_threadsafe(ids(), loop).result(LIMIT_SECONDS)


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("as_coroutine", [False, True])
def test_a_sleeping_task_sleeps(as_coroutine: bool) -> None:
    """A task and its bare coroutine are looked at alike."""

    async def rest() -> None:
        await asyncio.sleep(60)

    location = looked_at(rest, "sleep", as_coroutine=as_coroutine)
    assert location.endswith("rest -> sleep")
    assert "samplers/test_task_stacks.py:" in location


def test_an_event_is_a_lock() -> None:
    assert looked_at(forever, "lock").endswith("forever -> wait")


def test_a_queue_and_a_held_lock_are_locks() -> None:
    async def get() -> None:
        await asyncio.Queue[int]().get()

    async def acquire() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        async with lock:
            pass

    assert looked_at(get, "lock").endswith("get -> get")
    assert "acquire" in looked_at(acquire, "lock")


def test_a_bare_future_is_a_lock() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    assert looked_at(wait, "lock").endswith("wait -> create_future")


def test_a_worker_thread_is_an_executor() -> None:
    release = threading.Event()

    async def run() -> None:
        await asyncio.get_running_loop().run_in_executor(None, release.wait, LIMIT_SECONDS)

    async def to_thread() -> None:
        await asyncio.to_thread(release.wait, LIMIT_SECONDS)

    try:
        assert looked_at(run, "executor").endswith("run -> run_in_executor")
        assert looked_at(to_thread, "executor").endswith("to_thread -> to_thread")
    finally:
        release.set()


def test_a_stream_is_a_socket() -> None:
    async def read() -> None:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        try:
            await reader.read(1)
        finally:
            writer.close()
            there.close()

    assert looked_at(read, "socket").endswith("read -> read")


def test_what_is_awaited_is_followed_through_tasks_and_generators() -> None:
    """To the innermost line of the server's own."""

    async def generate() -> AsyncIterator[int]:
        await innermost()
        yield 1

    async def innermost() -> None:
        await asyncio.sleep(60)

    async def iterate() -> None:
        async for _ in generate():
            pass

    async def gather() -> None:
        await asyncio.gather(iterate(), iterate())

    async def limited() -> None:
        await asyncio.wait_for(iterate(), 60)

    async def shielded() -> None:
        await asyncio.create_task(limited())

    for work in (iterate, gather, limited, shielded):
        assert looked_at(work, "sleep").endswith("innermost -> sleep")


def test_a_task_that_is_ready_waits_for_the_loop() -> None:
    """While another one holds it."""

    async def turn() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.2)
        while True:
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(time.sleep, 0.2)

    assert looked_at(turn, "loop").endswith("turn -> sleep")


def test_a_task_that_runs_is_looked_at_as_its_thread() -> None:
    """What blocks the loop is told as what blocks a thread."""

    async def block() -> None:
        while True:
            time.sleep(0.2)
            await asyncio.sleep(0)

    assert looked_at(block, "sleep").endswith("block -> sleep")


@pytest.fixture
def client_library(tmp_path: Path) -> Any:
    """A module at a client library's path."""
    folder = tmp_path / "site-packages" / "aiohttp"
    folder.mkdir(parents=True)
    file = folder / "client.py"
    file.write_text(
        "import asyncio\nasync def get():\n    await asyncio.get_running_loop().create_future()\n"
    )
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    return scope["get"]


def test_a_client_librarys_wait_is_a_clients(client_library: Any) -> None:
    """Shown where the server calls it."""

    async def ask() -> None:
        await client_library()

    location = looked_at(ask, "client")
    assert "test_task_stacks.py:" in location
    assert " ask" in location


def test_the_aio_client_of_grpc_is_one() -> None:
    """And its server is not."""
    packages = "/usr/lib/python3/site-packages/grpc/aio/"
    assert origin_of(packages + "_call.py") is Origin.GRPC_CLIENT
    assert origin_of(packages + "_server.py") is Origin.GRPC_SERVER


def test_an_endless_chain_is_cut() -> None:
    """Coroutines may be nested deeper than anybody wants to look."""

    async def nest(depth: int) -> None:
        if depth:
            await nest(depth - 1)
        else:
            await asyncio.sleep(60)

    async def main() -> int:
        coroutine = nest(2 * LINKS_MAX)
        task = asyncio.ensure_future(coroutine)
        await asyncio.sleep(0)
        places = follow(coroutine).places
        task.cancel()
        return len(places)

    assert asyncio.run(main()) <= LINKS_MAX


def test_objects_of_the_server_are_not_asked_anything() -> None:
    """An awaitable of its own may answer to any attribute."""
    asked: list[str] = []

    class Awaitable:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise AttributeError(name)

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> None:
            return None

    async def main() -> list[CodeType]:
        async def wait() -> None:
            await Awaitable()

        coroutine = wait()
        task = asyncio.ensure_future(coroutine)
        await asyncio.sleep(0)
        asked.clear()
        places = follow(coroutine).places
        answered = list(asked)
        task.cancel()
        assert answered == []
        return [place.code for place in places]

    (code,) = asyncio.run(main())
    assert code.co_name == "wait"


def test_with_several_loops_a_running_task_is_not_guessed() -> None:
    """Nothing is said rather than something wrong."""

    async def main() -> list[Any]:
        task = asyncio.current_task()
        sampler = StackSampler(
            lambda: [ActiveTask(task, 1, HANDLER)], Names(), loops=lambda: [(1, 1), (2, 2)]
        )
        try:
            return list(sampler.sample(5))
        finally:
            sampler.close()

    assert asyncio.run(main()) == []
