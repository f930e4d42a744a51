from __future__ import annotations

import asyncio
import functools
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import pinchpoint
from pinchpoint.probe import stages as module
from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.stages import DEPTH_MAX, NAME_CHARS_MAX, STAGES_MAX, Stages
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.events import StageEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import OTHER
from tests.support.rings import the_ring
from tests.support.scripts import ROOT
from tests.support.waiting import LIMIT_SECONDS

NAP_SECONDS = 0.02
NAP_NS = 20_000_000


class NoModels:
    pending = False

    def before_handler(self) -> None: ...


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are the process'; each test has its own."""
    monkeypatch.setattr(module, "_stages", {})


@pytest.fixture
def recorder(ring_dir: Path) -> Iterator[Recorder]:
    recorder = Recorder(ring_dir, GcWatch(), NoModels())
    yield recorder
    recorder.close()


@pytest.fixture
def running(recorder: Recorder) -> Iterator[Stages]:
    """Stages that are written to the ring in `ring_dir`."""
    running = Stages(Part("stages"))
    running.start(recorder)
    yield running
    running.forget()
    assert running.part.errors == 0, running.part.last_error


def written(ring_dir: Path) -> list[tuple[str, StageEvent]]:
    """Names and events, in the order in which the stages ended."""
    ring = the_ring(ring_dir)
    events: list[object] = [*ring.events]
    return [(ring.text(e.stage_id), e) for e in events if isinstance(e, StageEvent)]


def names(ring_dir: Path) -> list[str]:
    return [name for name, _ in written(ring_dir)]


def nap() -> None:
    threading.Event().wait(NAP_SECONDS)


# What is written


@pytest.mark.usefixtures("running")
def test_a_stage_is_written_at_its_end_with_its_own_time(ring_dir: Path) -> None:
    """Wall time holds the inner stages, self time does not."""
    with pinchpoint.stage("outer"):
        nap()
        with pinchpoint.stage("inner"):
            nap()
        with pinchpoint.stage("inner"):
            nap()
    (first, a), (second, b), (last, outer) = written(ring_dir)
    assert (first, second, last) == ("inner", "inner", "outer")
    assert a.wall_ns == a.self_ns >= 0.9 * NAP_NS
    assert outer.wall_ns >= 2.7 * NAP_NS
    assert outer.self_ns == outer.wall_ns - a.wall_ns - b.wall_ns >= 0.9 * NAP_NS
    assert outer.method_id == 0
    assert outer.thread_id == threading.get_native_id()
    assert a.time_ns < b.time_ns < outer.time_ns


@pytest.mark.usefixtures("running")
def test_a_stage_within_itself_is_two_passes(ring_dir: Path) -> None:
    """One object, entered again before it is left, as a recursive function does."""
    stage = pinchpoint.stage("recurse")

    @stage
    def count(depth: int) -> int:
        return depth and 1 + count(depth - 1)

    with stage:
        assert count(3) == 3
    events = [event for _, event in written(ring_dir)]
    assert len(events) == 5
    assert all(event.self_ns <= event.wall_ns for event in events)
    assert sum(event.self_ns for event in events) == events[-1].wall_ns


class Own(Exception):
    """What the server's code raises."""


@pytest.mark.usefixtures("running")
def test_an_exception_passes_through_and_ends_the_stage(ring_dir: Path) -> None:
    """It is the server's; all stages on its way end."""
    error = Own()
    with pytest.raises(Own) as caught, pinchpoint.stage("outer"), pinchpoint.stage("inner"):
        raise error
    assert caught.value is error
    assert names(ring_dir) == ["inner", "outer"]


@pytest.mark.usefixtures("running")
def test_each_thread_has_its_own_stages(ring_dir: Path) -> None:
    """Two threads that stand in the same stage at once know nothing of each other."""
    barrier = threading.Barrier(2, timeout=LIMIT_SECONDS)

    def work() -> None:
        with pinchpoint.stage("work"):
            barrier.wait()
            nap()
            barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    events = [event for _, event in written(ring_dir)]
    assert {event.thread_id for event in events} == {thread.native_id for thread in threads}
    assert all(event.self_ns == event.wall_ns for event in events)


@pytest.mark.usefixtures("running")
def test_tasks_that_wait_in_a_stage_do_not_mix(ring_dir: Path) -> None:
    """Each is suspended inside, and the others run meanwhile."""

    async def work(number: int, turn: list[asyncio.Event]) -> None:
        with pinchpoint.stage(f"outer{number}"):
            await turn[number].wait()
            with pinchpoint.stage(f"inner{number}"):
                if number:
                    turn[number - 1].set()
                await asyncio.sleep(NAP_SECONDS)

    async def main() -> None:
        turn = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(work(number, turn)) for number in range(3)]
        await asyncio.sleep(0)
        turn[2].set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    events = dict(written(ring_dir))
    assert len(events) == 6
    for number in range(3):
        outer, inner = events[f"outer{number}"], events[f"inner{number}"]
        assert inner.self_ns == inner.wall_ns
        assert outer.self_ns == outer.wall_ns - inner.wall_ns


@pytest.mark.usefixtures("running")
def test_what_a_stage_starts_is_inside_it(ring_dir: Path) -> None:
    """Tasks at once, and a thread that runs in the context: their times are not its own."""

    async def part() -> None:
        with pinchpoint.stage("part"):
            await asyncio.sleep(NAP_SECONDS)

    def aside() -> None:
        with pinchpoint.stage("aside"):
            nap()

    async def main() -> None:
        with pinchpoint.stage("all"):
            await asyncio.gather(part(), part())
            await asyncio.to_thread(aside)

    asyncio.run(main())
    found = written(ring_dir)
    assert [name for name, _ in found] == ["part", "part", "aside", "all"]
    everything = found[-1][1]
    assert everything.wall_ns >= 1.8 * NAP_NS
    assert 0 <= everything.self_ns <= everything.wall_ns - 1.8 * NAP_NS


# Functions of every kind


@pytest.mark.usefixtures("running")
def test_decorated_functions_stay_what_they_were(ring_dir: Path) -> None:
    """Frameworks look at the kind of a function before they call it."""
    stage = pinchpoint.stage("kind")

    def plain(x: int) -> int:
        """Says so."""
        return x

    async def coroutine(x: int) -> int:
        return x

    def generator(x: int) -> Iterator[int]:
        yield x

    async def asynchronous(x: int) -> AsyncIterator[int]:
        yield x

    for function in (plain, coroutine, generator, asynchronous):
        decorated: Any = stage(function)
        for ask in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        ):
            assert ask(decorated) is ask(function)
        assert decorated.__name__ == function.__name__
        assert inspect.signature(decorated) == inspect.signature(function)

    async def collect() -> tuple[int, list[int]]:
        return await stage(coroutine)(2), [x async for x in stage(asynchronous)(4)]

    assert stage(plain)(1) == 1
    assert stage(plain).__doc__ == "Says so."
    assert list(stage(generator)(3)) == [3]
    assert asyncio.run(collect()) == (2, [4])
    assert names(ring_dir) == ["kind"] * 4


@pytest.mark.usefixtures("running")
def test_methods_of_every_kind_may_be_decorated(ring_dir: Path) -> None:
    """The decorator may stand above or below `staticmethod` and `classmethod`."""
    stage = pinchpoint.stage("method")

    class Service:
        @stage
        def own(self) -> object:
            return self

        @stage
        @staticmethod
        def above() -> str:
            return "above"

        @staticmethod
        @stage
        def below() -> str:
            return "below"

        @stage
        @classmethod
        def of_class(cls) -> object:
            return cls

    service = Service()
    assert service.own() is service
    assert (service.above(), service.below()) == ("above", "below")
    assert service.of_class() is Service
    assert len(names(ring_dir)) == 4


@pytest.mark.usefixtures("running")
def test_partials_and_callable_objects_of_coroutines_are_awaited_inside(ring_dir: Path) -> None:
    """The stage lasts to the end of what is awaited."""

    async def rest(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    class Rest:
        async def __call__(self, seconds: float) -> float:
            return await rest(seconds)

    async def main() -> None:
        partial: Any = functools.partial(rest, NAP_SECONDS)
        functools.update_wrapper(partial, rest)
        assert await pinchpoint.stage("partial")(partial)() == NAP_SECONDS
        assert await pinchpoint.stage("object")(Rest())(NAP_SECONDS) == NAP_SECONDS

    asyncio.run(main())
    assert names(ring_dir) == ["partial", "object"]
    assert all(event.wall_ns >= 0.9 * NAP_NS for _, event in written(ring_dir))


@pytest.mark.usefixtures("running")
def test_a_generator_is_in_its_stage_only_while_it_runs(ring_dir: Path) -> None:
    """The consumer's time, and the consumer's stages, are not its own."""

    @pinchpoint.stage("produce")
    def produce() -> Iterator[int]:
        for number in range(3):
            nap()
            yield number

    with pinchpoint.stage("all"):
        for _ in produce():
            with pinchpoint.stage("consume"):
                nap()
                nap()
    found = written(ring_dir)
    assert [name for name, _ in found] == ["consume"] * 3 + ["produce", "all"]
    produced, everything = found[-2][1], found[-1][1]
    assert 2.7 * NAP_NS <= produced.self_ns == produced.wall_ns
    consumed_ns = sum(event.wall_ns for name, event in found if name == "consume")
    assert everything.self_ns == everything.wall_ns - produced.wall_ns - consumed_ns


def echo_generator(log: list[Any]) -> Any:
    """Says what comes in, returns a value, and knows how it was ended."""

    def converse(first: str) -> Any:
        given: Any = first
        try:
            while given != "end":
                try:
                    given = yield f"<{given}>"
                except Own as error:
                    log.append(error)
                    given = "caught"
            return "returned"
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            log.append("finally")

    return converse


def talk(generator: Any, how: str) -> list[Any]:
    """Everything that a caller of a generator may do."""
    said: list[Any] = [next(generator), generator.send("a")]
    if how == "throw":
        said.append(generator.throw(Own("thrown")))
    if how in ("end", "throw"):
        try:
            generator.send("end")
        except StopIteration as stop:
            said.append(stop.value)
    elif how == "foreign":
        with pytest.raises(KeyError):
            generator.throw(KeyError("foreign"))
    else:
        generator.close()
    said.append(list(generator))
    return said


@pytest.mark.parametrize("how", ["end", "throw", "foreign", "close"])
@pytest.mark.parametrize("on", [True, False])
def test_a_decorated_generator_behaves_as_itself(
    request: pytest.FixtureRequest, ring_dir: Path, how: str, on: bool
) -> None:
    """What is sent, thrown and returned goes through, with the probe and without."""
    if on:
        request.getfixturevalue("running")
    expected_log: list[Any] = []
    expected = talk(echo_generator(expected_log)("x"), how)
    log: list[Any] = []
    assert talk(pinchpoint.stage("talk")(echo_generator(log))("x"), how) == expected
    assert list(map(str, log)) == list(map(str, expected_log))
    if on:
        assert names(ring_dir) == ["talk"]


def asynchronous_echo(log: list[Any]) -> Callable[[str], Any]:
    async def converse(first: str) -> AsyncIterator[str]:
        given: Any = first
        try:
            while given != "end":
                await asyncio.sleep(0)
                try:
                    given = yield f"<{given}>"
                except Own as error:
                    log.append(error)
                    given = "caught"
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            await asyncio.sleep(0)
            log.append("finally")

    return converse


async def talk_asynchronously(generator: Any, how: str) -> list[Any]:
    said: list[Any] = [await generator.__anext__(), await generator.asend("a")]
    if how == "throw":
        said.append(await generator.athrow(Own("thrown")))
    if how in ("end", "throw"):
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")
    elif how == "foreign":
        with pytest.raises(KeyError):
            await generator.athrow(KeyError("foreign"))
    else:
        await generator.aclose()
    said.append([value async for value in generator])
    return said


@pytest.mark.parametrize("how", ["end", "throw", "foreign", "close"])
@pytest.mark.parametrize("on", [True, False])
def test_a_decorated_asynchronous_generator_behaves_as_itself(
    request: pytest.FixtureRequest, ring_dir: Path, how: str, on: bool
) -> None:
    """The same, and it may await in its end."""
    if on:
        request.getfixturevalue("running")
    expected_log: list[Any] = []
    expected = asyncio.run(talk_asynchronously(asynchronous_echo(expected_log)("x"), how))
    log: list[Any] = []
    decorated = pinchpoint.stage("talk")(asynchronous_echo(log))
    assert asyncio.run(talk_asynchronously(decorated("x"), how)) == expected
    assert list(map(str, log)) == list(map(str, expected_log))
    if on:
        assert names(ring_dir) == ["talk"]


@pytest.mark.usefixtures("running")
def test_a_cancelled_task_leaves_its_stages(ring_dir: Path) -> None:
    """Cancellation is an exception like any other, and reaches the task."""

    @pinchpoint.stage("wait")
    async def wait() -> None:
        await asyncio.sleep(LIMIT_SECONDS)

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert names(ring_dir) == ["wait"]


# Stages that are not left in order


def depth() -> int:
    """How many stages are open in this context, counted by hand."""
    found, innermost = 0, module._open.get()
    while innermost is not None:
        found, innermost = found + 1, innermost.outer
    return found


@pytest.mark.usefixtures("running")
def test_a_generator_left_in_a_with_stage_disturbs_nobody(ring_dir: Path) -> None:
    """Its stage stays open around the consumer's; those are still written, and right."""

    def leaves_open() -> Generator[int, None, None]:
        with pinchpoint.stage("left"):
            yield 1

    kept = [leaves_open() for _ in range(2 * DEPTH_MAX)]
    depths = []
    for generator in kept:
        next(generator)
        with pinchpoint.stage("mine"):
            depths.append(depth())
    assert names(ring_dir) == ["mine"] * len(kept)
    assert max(depths) == DEPTH_MAX

    def close_all() -> None:
        for generator in kept:
            generator.close()

    closer = threading.Thread(target=close_all)
    closer.start()
    closer.join(LIMIT_SECONDS)
    assert names(ring_dir) == ["mine"] * len(kept)
    module._open.set(None)


def test_a_stage_that_the_switch_divides_is_not_written(
    running: Stages, recorder: Recorder, ring_dir: Path
) -> None:
    """Off at its begin or at its end; what follows is right again."""
    stage = pinchpoint.stage("divided")
    running.part.enabled = False
    with stage:
        running.part.enabled = True
    with stage:
        running.part.enabled = False
    with stage:
        running.forget()
    running.start(recorder)
    running.part.enabled = True
    with pinchpoint.stage("whole"):
        pass
    assert names(ring_dir) == ["whole"]
    assert module._open.get() is None


# Names


@pytest.mark.parametrize("name", [None, 7, b"bytes", ["list"], print])
def test_a_name_that_is_no_string_is_refused_with_and_without_the_probe(name: Any) -> None:
    """A mistake in the server's code shows in its tests, not first in production."""
    with pytest.raises(TypeError, match="takes the name of a stage") as refused:
        pinchpoint.stage(name)
    assert "\n" not in str(refused.value)


def test_what_is_no_function_cannot_be_decorated() -> None:
    """Said when the module is imported, not when a request comes."""
    with pytest.raises(TypeError, match="decorates functions, not an object of type int"):
        pinchpoint.stage("number")(7)  # type: ignore[type-var]


@pytest.mark.usefixtures("running")
def test_long_names_are_cut(ring_dir: Path) -> None:
    with pinchpoint.stage("x" * 1000):
        pass
    assert names(ring_dir) == ["x" * NAME_CHARS_MAX]
    assert pinchpoint.stage("x" * 1000) is pinchpoint.stage("x" * 2000)


@pytest.mark.usefixtures("running")
def test_names_beyond_the_cap_are_folded(ring_dir: Path) -> None:
    """A name made of a request's values must not fill the tables."""
    for number in range(STAGES_MAX + 5):
        with pinchpoint.stage(f"request {number}"), pinchpoint.stage("first"[: number + 1]):
            pass
    ring = the_ring(ring_dir)
    assert sum(name.kind == NameKind.STAGE for name in ring.names) == STAGES_MAX
    assert len(module._stages) == STAGES_MAX
    assert names(ring_dir).count(OTHER) >= 5
    assert "first" in names(ring_dir)


# Without the probe


def test_without_the_probe_nothing_is_kept() -> None:
    """The same object for a name, and no open stage."""
    stage = pinchpoint.stage("idle")
    assert pinchpoint.stage("idle") is stage
    with stage as bound:
        assert module._open.get() is None
        assert bound is None


@pytest.mark.parametrize("method", ["begin", "end", "leave", "write"])
@pytest.mark.parametrize("error", [Own("ours"), MemoryError()])
def test_a_failure_of_ours_costs_the_stages_only(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    """Each kind of function gives what it gives, and the part is off."""

    def fail(*_args: Any) -> Any:
        raise error

    monkeypatch.setattr(Stages, method, fail)

    async def asynchronous() -> list[int]:
        async def coroutine() -> int:
            return 1

        async def generator() -> AsyncIterator[int]:
            yield 2

        stage = pinchpoint.stage("async")
        return [await stage(coroutine)(), *[x async for x in stage(generator)()]]

    def generator() -> Iterator[int]:
        yield 3
        yield 4

    def use() -> None:
        with pinchpoint.stage("with"):
            pass

    for work, result, failures in (
        (use, None, 1),
        (pinchpoint.stage("plain")(lambda: 5), 5, 1),
        # A generator's steps are not looked for by their stage.
        (lambda: list(pinchpoint.stage("generator")(generator)()), [3, 4], int(method != "end")),
        (lambda: asyncio.run(asynchronous()), [1, 2], 1),
    ):
        running = Stages(Part("stages"))
        running.start(recorder)
        assert work() == result
        assert (running.part.enabled, running.part.errors) == (not failures, failures)
        running.forget()
        module._open.set(None)


def test_a_server_that_uses_stages_imports_little() -> None:
    """And one that does not, nothing at all."""
    program = (
        "import sys; before = set(sys.modules); import pinchpoint; "
        "print(*sorted(m for m in set(sys.modules) - before if 'pinch' in m));"
        "pinchpoint.stage('x').__enter__();"
        "print(*sorted(m for m in set(sys.modules) - before if 'pinch' in m));"
        "print({'asyncio', 'inspect', 'threading'} & set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(ROOT / "agent")},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, heavy = done.stdout.splitlines()
    assert first == "pinchpoint"
    assert second == "pinchpoint pinchpoint.probe pinchpoint.probe.stages"
    assert heavy == "set()"
