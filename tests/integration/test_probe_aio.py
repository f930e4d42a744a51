from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import pinchpoint
from pinchpoint.probe.aio_rpc import AioRpc
from pinchpoint.probe.call import Call
from pinchpoint.probe.grpc_aio import GrpcAioProbe
from pinchpoint.probe.guard import Part
from pinchpoint.probe.loop_lag import BEAT_SECONDS, JITTER_RATIO, LoopLag
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.stage_clocks import StageClocks
from pinchpoint.probe.stream_meter import StreamMeter
from pinchpoint.probe.thread_state import current_call
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.events import (
    FLAG_ASYNC,
    FLAG_BEHAVIOUR_CALLED,
    FLAG_DESERIALIZE_FAILED,
    FLAG_REJECTED,
    FLAG_RESPONDED,
    FLAG_SERIALIZE_FAILED,
    RequestEvent,
    StackEvent,
    StreamEvent,
)
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import LoopSample, ServerSample
from pinchpoint.schema.terms import (
    CALL_TYPES,
    GAP_BOUNDS_NS,
    GRPC_CODES,
    OTHER,
    STAGE_INDEX,
    WAIT_CATEGORIES,
)
from tests.support.aio_servers import AioServed, serving_aio
from tests.support.rings import Contents, ring_with, the_ring
from tests.support.servers import SERVICE, unary
from tests.support.truth import REST_SECONDS, Messages, NotingPool, Resting
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration

ECHO = f"/{SERVICE}/Echo"
RAN = FLAG_ASYNC | FLAG_BEHAVIOUR_CALLED
ANSWERED = RAN | FLAG_RESPONDED


async def echo(request: bytes, _context: Any) -> bytes:
    return request


def same(data: bytes) -> bytes:
    return bytes(bytearray(data))


def fail(_data: bytes) -> bytes:
    raise ValueError("no")


class Gate:
    """A handler that stands still until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, request: bytes, _context: Any) -> bytes:
        self._loop = asyncio.get_running_loop()
        self.entered.release()
        await self._open.wait()
        return request

    async def handle(self, request: bytes, context: Any) -> bytes:
        """As a bound method, which is a coroutine function."""
        return await self(request, context)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=LIMIT_SECONDS)

    def open(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._open.set)


def only(ring: Contents) -> RequestEvent:
    (request,) = ring.requests()
    return request


# What is recorded


@pytest.mark.parametrize(("generic", "registered"), [(True, True), (True, False), (False, True)])
def test_each_rpc_is_recorded_once_however_its_method_was_registered(
    probe: ProcessProbe, ring_dir: Path, generic: bool, registered: bool
) -> None:
    """Generated code registers every method both ways."""
    handlers = {"Echo": unary(echo, request_deserializer=same, response_serializer=same)}
    with serving_aio(handlers, generic=generic, registered=registered) as served:
        for _ in range(5):
            assert served.call("Echo", b"12345") == b"12345"
        ring = ring_with(ring_dir, lambda found: len(found.details) >= 5)
    assert len(ring.requests()) == len(ring.requests(ECHO)) == len(ring.details) == 5
    assert {(d.request_bytes, d.response_bytes) for d in ring.details} == {(5, 5)}
    assert {(r.status, r.flags, r.queue_ns) for r in ring.requests()} == {(0, ANSWERED, 0)}
    assert {ring.text(r.server_id) for r in ring.requests()} == {"grpc.aio"}
    assert [name.text for name in ring.names].count(ECHO) == 1
    assert probe._aio.seen == 5
    assert not probe._active
    assert not probe._aio.watched


def spin(seconds: float) -> int:
    """Use the CPU for so long; how long that was, in nanoseconds of the thread's own clock."""
    begin_ns = time.thread_time_ns()
    while time.thread_time_ns() - begin_ns < seconds * 1e9:
        pass
    return time.thread_time_ns() - begin_ns


def test_the_stages_of_a_sampled_request_tell_work_from_waiting(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """On the loop alone: what other tasks compute meanwhile is not this request's."""
    handled_ns: list[int] = []
    others_ns: list[int] = []

    async def rest(request: bytes, _context: Any) -> bytes:
        begin_ns = time.monotonic_ns()
        other = asyncio.ensure_future(compute())
        await asyncio.sleep(REST_SECONDS)
        await other
        handled_ns.append(time.monotonic_ns() - begin_ns)
        return request

    async def compute() -> None:
        others_ns.append(spin(0.1))

    with serving_aio({"Rest": unary(rest)}) as served:
        begin_ns = time.monotonic_ns()
        served.call("Rest")
        ring = ring_with(ring_dir, lambda found: found.details)
        all_ns = time.monotonic_ns() - begin_ns
    (detail,) = ring.details
    handler = detail.stages[STAGE_INDEX["handler"]]
    assert handler.wall_ns >= handled_ns[0]
    assert handler.cpu_ns < others_ns[0]
    assert handled_ns[0] <= sum(stage.wall_ns for stage in detail.stages) <= all_ns
    assert handled_ns[0] <= detail.latency_ns == only(ring).latency_ns <= all_ns


def test_work_on_the_loop_is_cpu(probe: ProcessProbe, ring_dir: Path) -> None:
    """The negative twin, over several steps."""
    clock_ns: list[int] = []
    spun_ns: list[int] = []

    def note(data: bytes) -> bytes:
        clock_ns.append(time.thread_time_ns())
        return data

    async def work(request: bytes, _context: Any) -> bytes:
        for _ in range(3):
            spun_ns.append(spin(0.05))
            await asyncio.sleep(0)
        return request

    handlers = {"Work": unary(work, request_deserializer=note, response_serializer=note)}
    with serving_aio(handlers) as served:
        served.call("Work")
        ring = ring_with(ring_dir, lambda found: found.details)
    handler = ring.details[0].stages[STAGE_INDEX["handler"]]
    before_ns, after_ns = clock_ns
    assert sum(spun_ns) <= handler.cpu_ns <= after_ns - before_ns


def test_plain_functions_wait_for_their_pool(probe: ProcessProbe, ring_dir: Path) -> None:
    """Four calls on one worker, the first of which holds it until all have come."""
    resting = Resting()
    received_ns: list[int] = []
    calls: list[Call | None] = []

    def receive(data: bytes) -> bytes:
        received_ns.append(time.monotonic_ns())
        return data

    def rest(request: bytes, context: Any) -> bytes:
        calls.append(current_call())
        return resting(request, context)

    def aio(ring: Contents) -> list[ServerSample]:
        return [s for s in ring.of(ServerSample) if ring.text(s.instance) == "grpc.aio"]

    handlers = {"Rest": unary(rest, request_deserializer=receive)}
    with NotingPool() as pool, serving_aio(handlers, pool=pool) as served:
        method = served.channel.unary_unary(f"/{SERVICE}/Rest")
        futures = [method.future(b"x") for _ in range(4)]
        assert until(lambda: len(pool.tasks) == 4)
        resting.let_go()
        assert [future.result(LIMIT_SECONDS) for future in futures] == [b"x"] * 4
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 4 and aio(found))

    def handler_begin_ns(request: RequestEvent) -> int:
        return request.arrival_ns + request.queue_ns + request.receive_ns

    four = sorted(ring.requests(), key=handler_begin_ns)
    for request, task, came_ns, span in zip(
        four, pool.tasks, received_ns, resting.spans, strict=True
    ):
        begin_ns, end_ns = span
        assert task.begun_ns - task.submitted_ns <= request.queue_ns <= begin_ns - came_ns
        assert task.begun_ns <= handler_begin_ns(request) <= begin_ns
        assert end_ns - begin_ns <= request.handler_ns <= task.ended_ns - task.begun_ns
        assert request.flags == ANSWERED
    assert [type(call) for call in calls] == [AioRpc] * 4
    assert current_call() is None
    assert aio(ring)[-1].workers == 1


async def generate(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number


async def write(_request: bytes, context: Any) -> None:
    for number in range(3):
        await context.write(b"%d" % number)


def generate_in_thread(_request: bytes, _context: Any) -> Iterator[bytes]:
    yield from (b"0", b"1", b"2")


async def relay(requests: Any, _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def read_and_write(_requests: Any, context: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message)


def relay_in_thread(requests: Any, _context: Any) -> Iterator[bytes]:
    yield from requests


async def count(requests: Any, _context: Any) -> bytes:
    return b"%d" % len([request async for request in requests])


async def read_and_count(_requests: Any, context: Any) -> bytes:
    number = 0
    while await context.read() is not grpc.aio.EOF:
        number += 1
    return b"%d" % number


def count_in_thread(requests: Any, _context: Any) -> bytes:
    return b"%d" % len(list(requests))


@pytest.mark.parametrize(
    ("kind", "behaviour", "received", "sent"),
    [
        ("server_stream", generate, 0, 3),
        ("server_stream", write, 0, 3),
        ("server_stream", generate_in_thread, 0, 3),
        ("bidi_stream", relay, 4, 4),
        ("bidi_stream", read_and_write, 4, 4),
        ("bidi_stream", relay_in_thread, 4, 4),
        ("client_stream", count, 4, 0),
        ("client_stream", read_and_count, 4, 0),
        ("client_stream", count_in_thread, 4, 0),
    ],
)
def test_messages_are_counted_whatever_the_style(
    probe: ProcessProbe, ring_dir: Path, kind: str, behaviour: Any, received: int, sent: int
) -> None:
    """Generators, `read` and `write`, and plain functions, of all streaming kinds."""
    make = {
        "server_stream": grpc.unary_stream_rpc_method_handler,
        "client_stream": grpc.stream_unary_rpc_method_handler,
        "bidi_stream": grpc.stream_stream_rpc_method_handler,
    }[kind]
    path = f"/{SERVICE}/Stream"
    four = [b"a", b"b", b"c", b"d"]
    with serving_aio({"Stream": make(behaviour)}) as served:
        if kind == "server_stream":
            assert list(served.channel.unary_stream(path)(b"x")) == [b"0", b"1", b"2"]
        elif kind == "bidi_stream":
            assert list(served.channel.stream_stream(path)(iter(four))) == four
        else:
            assert served.channel.stream_unary(path)(iter(four)) == b"4"
        ring = ring_with(ring_dir, lambda found: found.details)
    request = only(ring)
    assert (CALL_TYPES[request.call_type], request.status) == (kind, 0)
    assert request.flags & RAN == RAN
    assert request.handler_ns > 0
    (stream,) = [event for event in ring.events if isinstance(event, StreamEvent)]
    assert (stream.received, stream.sent) == (received, sent)
    assert sum(stream.gaps) == max(0, sent - 1)
    assert (stream.first_message_ns > 0) == bool(sent)
    assert not probe._aio.watched
    assert not probe._active


def test_first_message_and_gaps_are_those_of_the_handler(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """A stream with a slow start and one pause."""
    messages = Messages()
    handled_ns: list[int] = []

    async def slowly(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        handled_ns.append(time.monotonic_ns())
        for _ in range(2):
            await asyncio.sleep(REST_SECONDS)
            messages.give()
            yield b"x"
            messages.taken()

    with serving_aio({"Slowly": grpc.unary_stream_rpc_method_handler(slowly)}) as served:
        begin_ns = time.monotonic_ns()
        assert list(served.channel.unary_stream(f"/{SERVICE}/Slowly")(b"x")) == [b"x", b"x"]
        ring = ring_with(ring_dir, lambda found: found.details)
    (stream,) = [event for event in ring.events if isinstance(event, StreamEvent)]
    assert messages.given_ns[0] - handled_ns[0] <= stream.first_message_ns
    assert stream.first_message_ns <= messages.taken_ns[0] - begin_ns
    assert messages.shortest_whole_ns() <= stream.gap_ns <= messages.longest_whole_ns()


def test_messages_written_by_another_task_are_their_streams(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """A broadcaster that knows nothing of any request writes to the contexts that it holds."""
    contexts: asyncio.Queue[Any] = asyncio.Queue()

    async def broadcast() -> None:
        context, done = await contexts.get()
        await context.write(b"news")
        done.set()

    async def subscribe(_request: bytes, context: Any) -> None:
        done = asyncio.Event()
        await contexts.put((context, done))
        await done.wait()

    with serving_aio({"Subscribe": grpc.unary_stream_rpc_method_handler(subscribe)}) as served:
        asyncio.run_coroutine_threadsafe(broadcast(), served.loop)
        stream = served.channel.unary_stream(f"/{SERVICE}/Subscribe")(b"x")
        assert list(stream) == [b"news"]
        ring = ring_with(ring_dir, lambda found: found.details)
    (event,) = [event for event in ring.events if isinstance(event, StreamEvent)]
    assert (event.received, event.sent) == (0, 1)


# Statuses


@pytest.fixture(params=[True, False], ids=["sampled", "not sampled"])
def sampled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether requests are sampled, whatever the rate that the sampler finds."""
    chosen = bool(request.param)
    adapt = Recorder.adapt
    monkeypatch.setattr(
        Recorder, "adapt", lambda recorder, *_: adapt(recorder, 1e12 * (not chosen))
    )
    return chosen


def _adapt(probe: ProcessProbe) -> None:
    assert probe._recorder is not None
    probe._recorder.adapt(1.0)


async def abort(_request: bytes, context: Any) -> None:
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


async def abort_and_go_on(request: bytes, context: Any) -> bytes:
    try:
        await context.abort(grpc.StatusCode.NOT_FOUND)
    except grpc.aio.AbortError:
        pass
    return request


async def abort_in_a_task(_request: bytes, context: Any) -> None:
    await asyncio.gather(context.abort(grpc.StatusCode.NOT_FOUND))


def abort_in_thread(_request: bytes, context: Any) -> None:
    context.abort(grpc.StatusCode.NOT_FOUND)


async def set_code(request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    return request


def set_code_in_thread(request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    return request


async def set_number(request: bytes, context: Any) -> bytes:
    context.set_code(5)
    return request


async def set_code_and_raise(_request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    raise RuntimeError


async def set_ok(request: bytes, context: Any) -> bytes:
    context.set_code(grpc.StatusCode.OK)
    return request


async def throw(_request: bytes, _context: Any) -> bytes:
    raise RuntimeError


def throw_in_thread(_request: bytes, _context: Any) -> bytes:
    raise RuntimeError


async def nothing(_request: bytes, _context: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("behaviour", "code", "flags"),
    [
        (abort, "NOT_FOUND", RAN),
        (abort_and_go_on, "NOT_FOUND", RAN),
        (abort_in_a_task, "NOT_FOUND", RAN),
        (abort_in_thread, "NOT_FOUND", RAN),
        (set_code, "NOT_FOUND", RAN),
        (set_code_in_thread, "NOT_FOUND", RAN),
        (set_number, "NOT_FOUND", RAN),
        (set_code_and_raise, "NOT_FOUND", RAN),
        (set_ok, "OK", ANSWERED),
        (throw, "UNKNOWN", RAN),
        (throw_in_thread, "UNKNOWN", RAN),
        (nothing, "UNKNOWN", RAN | FLAG_SERIALIZE_FAILED),
    ],
)
def test_the_status_is_the_one_that_the_client_saw(
    probe: ProcessProbe, ring_dir: Path, behaviour: Any, code: str, flags: int, sampled: bool
) -> None:
    """Whichever way the handler chose to say it."""
    with serving_aio({"Do": unary(behaviour, response_serializer=same)}) as served:
        _adapt(probe)
        assert served.code("Do").name == code
        ring = ring_with(ring_dir, lambda found: found.details if sampled else found.requests())
        assert until(lambda: not probe._active)
    assert (GRPC_CODES[only(ring).status], only(ring).flags) == (code, flags)
    assert len(ring.details) == sampled


@pytest.mark.parametrize(
    ("broken", "flags"),
    [
        ("request_deserializer", FLAG_ASYNC | FLAG_DESERIALIZE_FAILED),
        ("response_serializer", RAN | FLAG_SERIALIZE_FAILED),
    ],
)
def test_a_failed_conversion_is_recorded_as_such(
    probe: ProcessProbe, ring_dir: Path, broken: str, flags: int, sampled: bool
) -> None:
    """UNKNOWN on aio, where a sync server says INTERNAL."""
    with serving_aio({"Echo": unary(echo, **{broken: fail})}) as served:
        _adapt(probe)
        assert served.code("Echo") is grpc.StatusCode.UNKNOWN
        ring = ring_with(ring_dir, lambda found: found.requests())
    assert (GRPC_CODES[only(ring).status], only(ring).flags) == ("UNKNOWN", flags)
    assert (only(ring).handler_ns > 0) == bool(flags & FLAG_BEHAVIOUR_CALLED)


def test_an_interceptor_that_raises_is_no_failed_conversion(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The negative twin: the handler did not run either."""

    class Raises(grpc.aio.ServerInterceptor):
        async def intercept_service(self, _continuation: Any, _details: Any) -> Any:
            raise RuntimeError

    with serving_aio({"Echo": unary(echo)}, interceptors=(Raises(),)) as served:
        assert served.code("Echo") is grpc.StatusCode.UNKNOWN
        ring = ring_with(ring_dir, lambda found: found.requests())
    assert (GRPC_CODES[only(ring).status], only(ring).flags) == ("UNKNOWN", FLAG_ASYNC)


def test_a_cancelled_call_is_recorded_as_cancelled(probe: ProcessProbe, ring_dir: Path) -> None:
    """The client gave up while the handler waited."""
    gate = Gate()
    with serving_aio({"Gate": unary(gate.handle)}) as served:
        future = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x", timeout=60)
        gate.wait_entered()
        assert future.cancel()
        ring = ring_with(ring_dir, lambda found: found.requests())
        assert until(lambda: not probe._active)
    assert (GRPC_CODES[only(ring).status], only(ring).flags) == ("CANCELLED", RAN)


@pytest.mark.parametrize("timeout", [0.1, 0.234])
def test_a_deadline_is_recorded_as_the_client_saw_it(
    probe: ProcessProbe, ring_dir: Path, timeout: float
) -> None:
    """The handler is cancelled by it, perhaps a little before the server's own clock says so."""
    gate = Gate()

    def expires() -> bool:
        assert served.code("Gate", timeout=timeout) is grpc.StatusCode.DEADLINE_EXCEEDED
        return gate.entered.acquire(blocking=False)

    with serving_aio({"Gate": unary(gate.handle)}) as served:
        assert until(expires)
        ring = ring_with(
            ring_dir, lambda found: any(r.flags & FLAG_BEHAVIOUR_CALLED for r in found.requests())
        )
    assert {GRPC_CODES[r.status] for r in ring.requests()} == {"DEADLINE_EXCEEDED"}


def test_a_call_that_died_while_the_loop_was_blocked_is_recorded(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """Python sees it when it is over; its handler does not run any more."""
    entered, leave = threading.Event(), threading.Event()
    ran = []

    async def late(request: bytes, _context: Any) -> bytes:
        ran.append(request)
        return request

    async def block(request: bytes, _context: Any) -> bytes:
        entered.set()
        assert leave.wait(LIMIT_SECONDS)
        return request

    with serving_aio({"Block": unary(block), "Echo": unary(late)}) as served:
        blocked = served.channel.unary_unary(f"/{SERVICE}/Block").future(b"x")
        assert entered.wait(LIMIT_SECONDS)
        # Long enough for the core to take the call in.
        sent_seconds = time.monotonic()
        assert served.code("Echo", timeout=1) is grpc.StatusCode.DEADLINE_EXCEEDED
        # The server's own timer begins when the call comes, and is rounded up.
        assert until(lambda: time.monotonic() > sent_seconds + 2)
        leave.set()
        blocked.result(LIMIT_SECONDS)
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
        assert until(lambda: not probe._active)
    (died,) = ring.requests(ECHO)
    # On a machine that held the call up for a second it came in time, and its handler ran.
    assert bool(died.flags & FLAG_BEHAVIOUR_CALLED) == bool(ran)
    if not ran:
        assert (GRPC_CODES[died.status], died.flags) == ("DEADLINE_EXCEEDED", FLAG_ASYNC)
        assert died.handler_ns == 0


def test_a_handler_that_waits_for_a_worker_can_be_cancelled(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """It never runs, and nothing stays behind."""
    entered, leave = threading.Event(), threading.Event()

    def block(request: bytes, _context: Any) -> bytes:
        entered.set()
        assert leave.wait(LIMIT_SECONDS)
        return request

    with ThreadPoolExecutor(1) as pool, serving_aio({"Block": unary(block)}, pool=pool) as served:
        method = served.channel.unary_unary(f"/{SERVICE}/Block")
        blocked = method.future(b"x")
        assert entered.wait(LIMIT_SECONDS)
        waiting = method.future(b"x")
        assert until(lambda: len(probe._active) == 2)
        assert until(lambda: pool._work_queue.qsize() == 1)
        waiting.cancel()
        assert until(lambda: len(probe._active) == 1)
        leave.set()
        blocked.result(LIMIT_SECONDS)
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
    died, ran = ring.requests()
    assert (GRPC_CODES[died.status], died.flags, died.handler_ns) == ("CANCELLED", FLAG_ASYNC, 0)
    assert (ran.status, ran.flags) == (0, ANSWERED)
    assert not probe._active


def test_an_unknown_method_is_recorded_as_rejected(probe: ProcessProbe, ring_dir: Path) -> None:
    """Its name is the client's and goes into no table."""
    with serving_aio({"Echo": unary(echo)}) as served:
        assert served.code("Missing") is grpc.StatusCode.UNIMPLEMENTED
        ring = ring_with(ring_dir, lambda found: found.requests())
    request = only(ring)
    assert request.flags == FLAG_ASYNC | FLAG_REJECTED
    assert GRPC_CODES[request.status] == "UNIMPLEMENTED"
    assert ring.text(request.method_id) == OTHER
    assert f"/{SERVICE}/Missing" not in [name.text for name in ring.names]
    assert probe._aio.seen == 1


def test_calls_beyond_the_concurrency_limit_are_recorded_as_rejected(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The method is known; its handler was not asked."""
    gate = Gate()
    with serving_aio({"Gate": unary(gate.handle)}, maximum_concurrent_rpcs=1) as served:
        future = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x")
        gate.wait_entered()
        assert served.code("Gate") is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.open()
        assert future.result(LIMIT_SECONDS) == b"x"
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
    rejected, served_one = ring.requests()
    assert rejected.flags == FLAG_ASYNC | FLAG_REJECTED
    assert GRPC_CODES[rejected.status] == "RESOURCE_EXHAUSTED"
    assert ring.text(rejected.method_id) == f"/{SERVICE}/Gate"
    assert (served_one.status, served_one.flags) == (0, ANSWERED)


def test_health_checks_are_left_out(probe: ProcessProbe, ring_dir: Path) -> None:
    """They say nothing about the service; Python has seen them all the same."""
    health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": unary(echo)})
    with serving_aio({"Echo": unary(echo)}, others=(health,)) as served:
        check = served.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"x") == b"x"
        assert served.call("Echo") == b"x"
        ring = ring_with(ring_dir, lambda found: found.requests())
    assert ring.text(only(ring).method_id) == ECHO
    assert probe._aio.seen == 2


def test_methods_of_other_generic_handlers_are_learnt_when_they_are_called(
    probe: ProcessProbe, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers any name must not let its clients fill the tables."""
    monkeypatch.setattr("pinchpoint.probe.methods.METHODS_MAX", 3)

    class Anything(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method.endswith("Stream"):
                return grpc.unary_stream_rpc_method_handler(generate)
            return unary(echo)

    with serving_aio({"Echo": unary(echo)}, others=(Anything(),)) as served:
        stream = served.channel.unary_stream(f"/{SERVICE}/Stream")
        assert len(list(stream(b"x"))) == 3
        for number in range(20):
            assert served.call(f"Invented{number}") == b"x"
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 21)
    assert sum(name.kind == NameKind.METHOD for name in ring.names) == 3
    (streamed,) = ring.requests(f"/{SERVICE}/Stream")
    assert CALL_TYPES[streamed.call_type] == "server_stream"
    assert len(ring.requests(f"/{SERVICE}/Invented0")) == 1
    assert len(ring.requests(OTHER)) == 19


def test_a_handler_that_an_interceptor_puts_in_place_is_measured(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """Whoever supplies it, grpcio calls it in the same place."""

    class Replaces(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = await continuation(details)

            async def other(request: bytes, context: Any) -> bytes:
                response: bytes = await handler.unary_unary(request, context)
                return response + b"!"

            return unary(other)

    with serving_aio({"Echo": unary(echo)}, interceptors=(Replaces(),)) as served:
        assert served.call("Echo") == b"x!"
        ring = ring_with(ring_dir, lambda found: found.requests())
    assert (only(ring).status, only(ring).flags) == (0, ANSWERED)


def test_the_request_is_found_from_everything_that_works_for_it(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """In the handler, in its tasks, and in threads that run in its context."""
    found: list[Any] = []

    async def look(request: bytes, _context: Any) -> bytes:
        found.append(current_call())
        found.append(await asyncio.create_task(look_in_task()))
        found.append(await asyncio.to_thread(current_call))
        context = contextvars.copy_context()
        found.append(
            await asyncio.get_running_loop().run_in_executor(
                None, lambda: context.run(current_call)
            )
        )
        return request

    async def look_in_task() -> Any:
        return current_call()

    with serving_aio({"Look": unary(look)}) as served:
        served.call("Look")
    assert [type(call) for call in found] == [AioRpc] * 4
    assert len(set(map(id, found))) == 1


def test_what_runs_is_in_flight(probe: ProcessProbe, ring_dir: Path) -> None:
    """Number and age, once a second."""
    gate = Gate()

    def aio(ring: Contents) -> list[ServerSample]:
        return [s for s in ring.of(ServerSample) if ring.text(s.instance) == "grpc.aio"]

    with serving_aio({"Gate": unary(gate.handle)}) as served:
        future = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x")
        gate.wait_entered()
        ring = ring_with(ring_dir, lambda found: any(s.oldest_age_ns for s in aio(found)))
        gate.open()
        future.result(LIMIT_SECONDS)
    last = aio(ring)[-1]
    assert (last.in_flight, last.seen, last.workers) == (1, 1, None)
    assert (last.oldest_age_ns or 0) > 0


def test_where_tasks_wait_is_looked_at(probe: ProcessProbe, ring_dir: Path) -> None:
    """By the stack sampler, in the line of the handler's own code."""
    gate = Gate()
    with serving_aio({"Gate": unary(gate.handle)}) as served:
        future = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x")
        gate.wait_entered()
        ring = ring_with(ring_dir, _waits)
        gate.open()
        future.result(LIMIT_SECONDS)
    stack = _waits(ring)[-1]
    assert "integration/test_probe_aio.py:" in ring.text(stack.location_id)
    assert ring.text(stack.location_id).endswith("__call__ -> wait")


def _waits(ring: Contents) -> list[StackEvent]:
    stacks = [event for event in ring.events if isinstance(event, StackEvent)]
    return [stack for stack in stacks if WAIT_CATEGORIES[stack.category] == "lock"]


def test_a_blocked_loop_shows_in_its_lag(probe: ProcessProbe, ring_dir: Path) -> None:
    """A handler that blocks makes one timer late by all of it but the timer's own delay."""
    blocked_ns: list[int] = []

    async def block(request: bytes, _context: Any) -> bytes:
        begin_ns = time.monotonic_ns()
        time.sleep(0.5)
        blocked_ns.append(time.monotonic_ns() - begin_ns)
        return request

    def beating(ring: Contents) -> list[LoopSample]:
        return [s for s in ring.of(LoopSample) if s.beats]

    def lag_ns(ring: Contents) -> float:
        return beating(ring)[-1].lag_ns or 0.0

    def late_beats(ring: Contents) -> float:
        buckets = range(bisect_left(GAP_BOUNDS_NS, late_ns), len(GAP_BOUNDS_NS) + 1)
        return sum(getattr(beating(ring)[-1], f"lag_{n}") or 0 for n in buckets)

    with serving_aio({"Block": unary(block)}) as served:
        before = ring_with(ring_dir, beating)
        served.call("Block")
        late_ns = blocked_ns[0] - BEAT_SECONDS * (1 + JITTER_RATIO) * 1e9
        ring = ring_with(ring_dir, lambda found: lag_ns(found) >= lag_ns(before) + late_ns)
    assert ring.text(beating(ring)[-1].instance) == "aio-loop"
    assert lag_ns(ring) >= lag_ns(before) + late_ns
    assert late_beats(ring) > late_beats(before)


# Getting in and out


def test_uninstalling_puts_everything_back(ring_dir: Path, probe: ProcessProbe) -> None:
    """What was replaced is what it was before."""
    import grpc.aio._server as module
    from grpc._cython import cygrpc

    names = [name for name in vars(cygrpc) if name.startswith("_") or name == "AioServer"]
    pinchpoint.uninstall()
    before = {name: vars(cygrpc)[name] for name in names}
    servers = dict(vars(module.Server))
    assert pinchpoint.install()
    assert vars(cygrpc)["_handle_rpc"] is not before["_handle_rpc"]
    pinchpoint.uninstall()
    assert {name: vars(cygrpc)[name] for name in names} == before
    assert dict(vars(module.Server)) == servers


def test_a_server_goes_on_unwatched_after_uninstall(probe: ProcessProbe, ring_dir: Path) -> None:
    """No further record is written, not even of the RPC that runs."""
    gate = Gate()
    with serving_aio({"Echo": unary(echo), "Gate": unary(gate.handle)}) as served:
        served.call("Echo")
        ring_with(ring_dir, lambda found: found.requests())
        running = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x")
        gate.wait_entered()
        pinchpoint.uninstall()
        gate.open()
        assert running.result(LIMIT_SECONDS) == b"x"
        assert [served.call("Echo") for _ in range(3)] == [b"x"] * 3
        assert len(the_ring(ring_dir).requests()) == 1


def test_a_server_made_before_the_probe_is_seen_from_then_on(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late installation, into a process that serves already."""
    monkeypatch.setenv("PINCHPOINT_RING_DIR", str(ring_dir))
    with serving_aio({"Echo": unary(echo)}) as served:
        served.call("Echo")
        assert pinchpoint.install()
        try:
            served.call("Echo")
            ring = ring_with(ring_dir, lambda found: found.requests())
        finally:
            pinchpoint.uninstall()
    assert only(ring).status == 0


# The probe breaks, the server does not


class Broken(Exception):
    """What a defect of ours would raise."""


class NoModels:
    """Nothing to pick up."""

    pending = False

    def before_handler(self) -> None:
        """Never called."""


def _serve_everything(served: AioServed) -> None:
    """RPCs of every kind and end, each as it has to be."""
    path = f"/{SERVICE}/"
    channel = served.channel
    assert [served.call("Echo") for _ in range(3)] == [b"x"] * 3
    assert served.call("InThread") == b"x"
    assert list(channel.unary_stream(path + "Generate")(b"x")) == [b"0", b"1", b"2"]
    assert list(channel.unary_stream(path + "GenerateInThread")(b"x")) == [b"0", b"1", b"2"]
    assert list(channel.stream_stream(path + "Relay")(iter([b"1", b"2"]))) == [b"1", b"2"]
    assert channel.stream_unary(path + "Count")(iter([b"1", b"2"])) == b"2"
    assert served.code("Abort") is grpc.StatusCode.NOT_FOUND
    assert served.code("Throw") is grpc.StatusCode.UNKNOWN
    assert served.code("Missing") is grpc.StatusCode.UNIMPLEMENTED
    assert [served.call("Echo") for _ in range(3)] == [b"x"] * 3


def in_thread(request: bytes, _context: Any) -> bytes:
    return request


ALL_KINDS = {
    "Echo": unary(echo, request_deserializer=same, response_serializer=same),
    "InThread": unary(in_thread),
    "Generate": grpc.unary_stream_rpc_method_handler(generate),
    "GenerateInThread": grpc.unary_stream_rpc_method_handler(generate_in_thread),
    "Relay": grpc.stream_stream_rpc_method_handler(relay),
    "Count": grpc.stream_unary_rpc_method_handler(count),
    "Abort": unary(abort),
    "Throw": unary(throw),
}


def _serve_under(recorder: Any, part: Part) -> GrpcAioProbe:
    import grpc.aio._server as module

    hook = GrpcAioProbe(part, recorder, set(), LoopLag(part))
    hook.install(module)
    try:
        with serving_aio(ALL_KINDS) as served:
            _serve_everything(served)
            assert until(lambda: not hook.active)
    finally:
        hook.uninstall()
    return hook


BOUNDARIES = [
    *((Call, name) for name in ("behaviour_begins", "behaviour_ended", "finish", "meter")),
    *((AioRpc, name) for name in ("enter", "learn", "streams", "respond", "stream_from")),
    *((AioRpc, name) for name in ("_stepped", "_received", "_lend", "_record", "_in_another_task")),
    *((StageClocks, name) for name in ("enter", "resume", "suspend", "__init__")),
    *((StreamMeter, name) for name in ("received", "sent", "finish", "__init__")),
    *((Recorder, name) for name in ("intern", "request", "detail", "stream")),
    *((GrpcAioProbe, name) for name in ("_adopt", "_name", "context_of")),
    (LoopLag, "watch"),
]


@pytest.mark.parametrize(("owner", "name"), BOUNDARIES, ids=str)
def test_a_defect_of_ours_costs_no_rpc(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Each place where an RPC passes through us, broken in turn."""
    part = Part("grpc.aio")
    recorder = Recorder(ring_dir, GcWatch(), NoModels())

    def fail_there(*_args: Any, **_kwargs: Any) -> None:
        raise Broken(name)

    # No constructor reaches into the middle of a call.
    monkeypatch.setattr(owner, name, fail_there)
    hook = _serve_under(lambda: recorder, part)
    monkeypatch.undo()
    recorder.close()
    assert part.errors >= 1
    assert not part.enabled
    assert part.last_error == f"Broken: {name}"
    assert not hook.active


def test_a_recorder_that_cannot_be_made_costs_no_rpc() -> None:
    """The first server of the process meets a defect in our start."""

    def start() -> Recorder:
        raise Broken("start")

    part = Part("grpc.aio")
    _serve_under(start, part)
    assert (part.errors, part.enabled) == (1, False)


def test_without_a_defect_the_part_stays_on(ring_dir: Path) -> None:
    """The negative twin."""
    part = Part("grpc.aio")
    recorder = Recorder(ring_dir, GcWatch(), NoModels())
    hook = _serve_under(lambda: recorder, part)
    recorder.close()
    assert (part.errors, part.last_error) == (0, "")
    assert not hook.watched
    assert len(the_ring(ring_dir).requests()) == 14
