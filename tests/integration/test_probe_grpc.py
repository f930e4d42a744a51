from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import ref

import grpc
import pytest

import pinchpoint
from pinchpoint.probe import activate
from pinchpoint.probe.call import Call
from pinchpoint.probe.grpc_server import GrpcServerProbe
from pinchpoint.probe.guard import Part
from pinchpoint.probe.pool_proxy import PoolProxy
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.probe.recorder import Recorder
from pinchpoint.ring.reader import RingReader
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED, FLAG_REJECTED, FLAG_RESPONDED
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import CALL_TYPES, GRPC_CODES, OTHER, STAGE_INDEX
from tests.support.models import NoModels
from tests.support.rings import contents, ring_files, ring_with, the_ring
from tests.support.scripts import ECHO_SERVER, run, running
from tests.support.servers import SERVICE, serving, unary
from tests.support.tmpfs import tiny_tmpfs
from tests.support.truth import NotingPool, Resting, serving_from
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration

ECHO = f"/{SERVICE}/Echo"
CANCELLED = GRPC_CODES.index("CANCELLED")


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    return request


def same(data: bytes) -> bytes:
    return bytes(bytearray(data))


class Gate:
    """A handler that stands still until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.entered.release()
        assert self.open.wait(LIMIT_SECONDS)
        return request

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=LIMIT_SECONDS)


# What is recorded


def test_queue_waits_are_those_of_a_single_worker(probe: ProcessProbe, ring_dir: Path) -> None:
    """Four calls, the first of which holds the worker until all have come."""
    pool, resting = NotingPool(), Resting()
    with serving_from(pool, {"Rest": unary(resting)}) as channel:
        sent_ns = time.monotonic_ns()
        method = channel.unary_unary(f"/{SERVICE}/Rest")
        futures = [method.future(b"x") for _ in range(4)]
        assert until(lambda: len(pool.tasks) == 4)
        resting.let_go()
        assert [future.result(LIMIT_SECONDS) for future in futures] == [b"x"] * 4
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 4)

    for request, task, span in zip(ring.requests(), pool.tasks, resting.spans, strict=True):
        begin_ns, end_ns = span
        assert sent_ns <= request.arrival_ns <= task.submitted_ns
        assert task.begun_ns <= request.arrival_ns + request.queue_ns <= begin_ns
        assert end_ns - begin_ns <= request.handler_ns <= task.ended_ns - task.begun_ns


def test_a_record_says_what_was_called_and_on_what(probe: ProcessProbe, ring_dir: Path) -> None:
    """Method by its full name, server, type, and a handler that ran."""
    with serving({"Echo": unary(echo)}) as served:
        served.call("Echo")
        ring = ring_with(ring_dir, lambda found: found.requests(ECHO))
    (request,) = ring.requests()
    assert ring.text(request.method_id) == ECHO
    assert ring.text(request.server_id) == "grpc"
    assert request.flags == FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED
    assert CALL_TYPES[request.call_type] == "unary"
    assert (request.forwards, request.model_id, request.batch_size) == (0, 0, 0)


@pytest.mark.parametrize(("generic", "registered"), [(True, True), (True, False), (False, True)])
def test_each_rpc_is_recorded_once_however_its_method_was_registered(
    probe: ProcessProbe, ring_dir: Path, generic: bool, registered: bool
) -> None:
    """Generated code registers every method both ways."""
    handlers = {"Echo": unary(echo, request_deserializer=same, response_serializer=same)}
    with serving(handlers, generic=generic, registered=registered) as served:
        for _ in range(5):
            served.call("Echo", b"12345")
        ring = ring_with(ring_dir, lambda found: len(found.details) >= 5)
    assert len(ring.requests()) == len(ring.requests(ECHO)) == len(ring.details) == 5
    assert {(d.request_bytes, d.response_bytes) for d in ring.details} == {(5, 5)}
    assert [name.text for name in ring.names].count(ECHO) == 1


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_sizes_are_those_on_the_wire(probe: ProcessProbe, ring_dir: Path, size: int) -> None:
    """Both directions, empty and large messages too."""

    def double(request: bytes, _context: grpc.ServicerContext) -> bytes:
        return request + b"!"

    handlers = {"Double": unary(double, request_deserializer=same, response_serializer=same)}
    with serving(handlers) as served:
        assert len(served.call("Double", b"x" * size)) == size + 1
        ring = ring_with(ring_dir, lambda found: found.details)
    (detail,) = ring.details
    assert (detail.request_bytes, detail.response_bytes) == (size, size + 1)


def test_the_stages_of_a_sampled_request_add_up_to_its_latency(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """A handler of known composition: its rest is blocked time, and no time is left over."""
    pool, resting = NotingPool(), Resting()
    resting.let_go()
    with serving_from(pool, {"Rest": unary(resting)}) as channel:
        sent_ns = time.monotonic_ns()
        assert channel.unary_unary(f"/{SERVICE}/Rest")(b"x") == b"x"
        ring = ring_with(ring_dir, lambda found: found.details)
    (detail,), (request,), (task,) = ring.details, ring.requests(), pool.tasks
    ((begin_ns, end_ns),) = resting.spans
    handler = detail.stages[STAGE_INDEX["handler"]]
    assert detail.weight == 1.0
    assert end_ns - begin_ns <= handler.wall_ns <= task.ended_ns - task.begun_ns
    assert handler.blocked_ns >= end_ns - begin_ns - task.own_ns
    queue_ns = task.begun_ns - task.submitted_ns
    everything_ns = sum(stage.wall_ns for stage in detail.stages)
    assert queue_ns + end_ns - begin_ns <= everything_ns <= task.ended_ns - sent_ns
    assert detail.latency_ns == request.latency_ns <= task.ended_ns - sent_ns
    assert detail.stages[STAGE_INDEX["preprocess"]].wall_ns == 0


def test_the_details_stand_for_all_requests_when_only_some_are_drawn(
    probe: ProcessProbe, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of what is drawn are what it stands for."""
    adapt = Recorder.adapt
    # The sampler adapts once a second as well, and knows only of the requests that have come.
    monkeypatch.setattr(Recorder, "adapt", lambda recorder, *_: adapt(recorder, 100.0))
    with serving({"Echo": unary(echo)}) as served:
        recorder = probe._recorder
        assert recorder is not None
        weights: list[int] = []
        for _ in range(100):  # seconds
            recorder.adapt(100.0)
            weights += [recorder.draw() for _ in range(100)]
        assert served.call("Echo") == b"x"
    assert set(weights) == {0, 4}
    assert sum(weights) == pytest.approx(10_000, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("client_stream", grpc.stream_unary_rpc_method_handler),
        ("server_stream", grpc.unary_stream_rpc_method_handler),
        ("bidi_stream", grpc.stream_stream_rpc_method_handler),
    ],
)
def test_streams_are_recorded_with_their_type(
    probe: ProcessProbe, ring_dir: Path, kind: str, make: Any
) -> None:
    """The handler's time is that of the whole stream."""

    def one(_requests: Any, _context: grpc.ServicerContext) -> bytes:
        return b"one"

    def three(_requests: Any, _context: grpc.ServicerContext) -> Any:
        yield from (b"1", b"2", b"3")

    with serving({"Stream": make(one if kind == "client_stream" else three)}) as served:
        path = f"/{SERVICE}/Stream"
        if kind == "client_stream":
            assert served.channel.stream_unary(path)(iter([b"a", b"b"])) == b"one"
        elif kind == "server_stream":
            assert list(served.channel.unary_stream(path)(b"a")) == [b"1", b"2", b"3"]
        else:
            assert list(served.channel.stream_stream(path)(iter([b"a"]))) == [b"1", b"2", b"3"]
        ring = ring_with(ring_dir, lambda found: found.requests())
    (request,) = ring.requests()
    assert CALL_TYPES[request.call_type] == kind
    one_answer = FLAG_RESPONDED if kind == "client_stream" else 0
    assert (request.status, request.flags) == (0, FLAG_BEHAVIOUR_CALLED | one_answer)
    assert request.handler_ns > 0


# Ends that the handler does not decide


def test_a_cancelled_call_is_recorded_as_cancelled(probe: ProcessProbe, ring_dir: Path) -> None:
    """The client gave up while the handler ran."""
    entered = threading.Event()

    def until_inactive(request: bytes, context: grpc.ServicerContext) -> bytes:
        entered.set()
        assert until(lambda: not context.is_active())
        return request

    with serving({"Wait": unary(until_inactive)}) as served:
        future = served.channel.unary_unary(f"/{SERVICE}/Wait").future(b"x")
        assert entered.wait(LIMIT_SECONDS)
        assert future.cancel()
        ring = ring_with(ring_dir, lambda found: found.requests())
    assert [r.status for r in ring.requests()] == [CANCELLED]


def test_a_call_cancelled_in_the_queue_is_recorded_without_a_handler(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The only worker is busy when its client gives up; the handler never runs."""
    gate = Gate()
    with serving({"Gate": unary(gate)}, workers=1) as served:
        method = served.channel.unary_unary(f"/{SERVICE}/Gate")
        running = method.future(b"x")
        gate.wait_entered()
        waiting = method.future(b"x")
        assert until(lambda: len(probe._active) == 2)
        waiting.cancel()
        # Let the cancellation reach the server before the worker comes to that call.
        assert until(lambda: _known_calls(served.server) == 1)
        gate.open.set()
        assert running.result(LIMIT_SECONDS) == b"x"
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
    ran, died = sorted(ring.requests(), key=lambda request: request.arrival_ns)
    assert (ran.status, ran.flags) == (0, FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED)
    assert (died.status, died.flags, died.handler_ns) == (CANCELLED, 0, 0)
    assert died.queue_ns > 0
    assert not probe._active


def _known_calls(server: Any) -> int:
    return len(server._state.rpc_states)


def test_a_handler_that_its_client_has_left_is_still_in_flight(probe: ProcessProbe) -> None:
    """A hung server is not an idle one, sampled or not."""
    gate = Gate()
    with serving({"Gate": unary(gate)}) as served:
        assert probe._recorder is not None
        probe._recorder.adapt(1e12)
        future = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x")
        gate.wait_entered()
        future.cancel()
        assert until(lambda: _known_calls(served.server) == 0)
        assert len(probe._grpc.in_flight()) + len(probe._active) == 1
        gate.open.set()
        assert until(lambda: len(probe._grpc.in_flight()) + len(probe._active) == 0)


def test_a_deadline_is_recorded_as_the_client_saw_it(probe: ProcessProbe, ring_dir: Path) -> None:
    """The handler goes on until it notices, and its record says why it was in vain."""
    entered = threading.Event()

    def until_inactive(request: bytes, context: grpc.ServicerContext) -> bytes:
        entered.set()
        assert until(lambda: not context.is_active())
        return request

    def expires() -> bool:
        assert served.code("Wait", timeout=0.1) is grpc.StatusCode.DEADLINE_EXCEEDED
        return entered.is_set()

    with serving({"Wait": unary(until_inactive)}) as served:
        assert until(expires)
        ring = ring_with(
            ring_dir, lambda found: any(r.flags & FLAG_BEHAVIOUR_CALLED for r in found.requests())
        )
    assert {GRPC_CODES[r.status] for r in ring.requests()} == {"DEADLINE_EXCEEDED"}


def test_an_unknown_method_is_recorded_as_rejected(probe: ProcessProbe, ring_dir: Path) -> None:
    """Its name is the client's and goes into no table."""
    with serving({"Echo": unary(echo)}) as served:
        assert served.code("Missing") is grpc.StatusCode.UNIMPLEMENTED
        ring = ring_with(ring_dir, lambda found: found.requests())
    (request,) = ring.requests()
    assert (request.flags, GRPC_CODES[request.status]) == (FLAG_REJECTED, "UNIMPLEMENTED")
    assert ring.text(request.method_id) == OTHER


def test_calls_beyond_the_concurrency_limit_are_recorded_as_rejected(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The method is known; the call never reached the pool."""
    gate = Gate()
    with serving({"Gate": unary(gate)}, maximum_concurrent_rpcs=1) as served:
        future = served.channel.unary_unary(f"/{SERVICE}/Gate").future(b"x")
        gate.wait_entered()
        assert served.code("Gate") is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.open.set()
        assert future.result(LIMIT_SECONDS) == b"x"
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
    rejected, served_one = ring.requests()
    assert (rejected.flags, GRPC_CODES[rejected.status]) == (FLAG_REJECTED, "RESOURCE_EXHAUSTED")
    assert ring.text(rejected.method_id) == f"/{SERVICE}/Gate"
    assert served_one.status == 0


def test_health_checks_are_left_out(probe: ProcessProbe, ring_dir: Path) -> None:
    """They say nothing about the service and would drown a quiet one."""
    pool = ThreadPoolExecutor(1)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": unary(echo)}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel: Any
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"x") == b"x"
    server.stop(None).wait()
    pool.shutdown()
    assert the_ring(ring_dir).requests() == []
    assert (probe._grpc.seen, len(probe._active)) == (1, 0)


def test_names_that_clients_invent_are_folded(
    probe: ProcessProbe, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers any name must not let its clients fill the tables."""
    monkeypatch.setattr("pinchpoint.probe.methods.METHODS_MAX", 3)

    class Anything(grpc.GenericRpcHandler):
        def service(self, _details: grpc.HandlerCallDetails) -> Any:
            return unary(echo)

    with serving({"Echo": unary(echo)}) as served:
        served.server.add_generic_rpc_handlers((Anything(),))
        for number in range(20):
            assert served.call(f"Invented{number}") == b"x"
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 20)
    assert sum(name.kind == NameKind.METHOD for name in ring.names) == 3
    assert len(ring.requests(OTHER)) == 18


# Shapes of grpcio that are not today's


class Inline:
    """A pool that runs its tasks at once."""

    def submit(self, fn: Any, *args: Any, **named: Any) -> Any:
        return fn(*args, **named)


def _unary_response_in_pool(*args: Any) -> Any:
    return args[2](args[3](), None)


def test_the_older_call_shape_is_measured_too(ring_dir: Path) -> None:
    """Grpcio up to 1.58 submits without `state.context.run`."""
    recorder = Recorder(ring_dir, GcWatch(), NoModels())
    part = Part("grpc")
    hook = GrpcServerProbe(part, lambda: recorder, set())
    event, state = _Event(), _State()

    def unary_request() -> bytes:
        return b"x"

    args = (_unary_response_in_pool, event, state, echo, unary_request, None, None)
    recorder.adapt(1e9)
    PoolProxy(hook, Inline(), None).submit(*args)
    recorder.close()
    assert len(the_ring(ring_dir).requests("/a.B/C")) == 1
    assert part.errors == 0


@pytest.mark.parametrize("args", [(), (print,), (print, 1, 2, 3, 4, 5, 6, 7), (print,) * 7])
def test_anything_else_that_is_submitted_passes_through(
    ring_dir: Path, args: tuple[Any, ...]
) -> None:
    """The pool may serve other purposes, and grpcio may change."""
    recorder = Recorder(ring_dir, GcWatch(), NoModels())
    part = Part("grpc")
    hook = GrpcServerProbe(part, lambda: recorder, set())
    seen: list[tuple[Any, ...]] = []

    def task(*given: Any, **named: Any) -> str:
        seen.append((*given, named))
        return "done"

    assert PoolProxy(hook, Inline(), None).submit(task, *args, name="x") == "done"
    assert PoolProxy(hook, Inline(), None).submit(task, *args) == "done"
    assert seen == [(*args, {"name": "x"}), (*args, {})]
    recorder.close()
    assert part.enabled


class _Event:
    tag = "/a.B/C"

    class call_details:  # noqa: N801  # as grpcio's own attribute
        method = b""
        deadline = float("inf")


class _State:
    client = "open"
    statused = True
    code = None


# Getting in and out


def test_installing_twice_and_uninstalling_twice_is_as_once(
    ring_dir: Path, probe: ProcessProbe
) -> None:
    """Everything that was replaced is what it was before, however often one asks."""
    import grpc._server as module

    pinchpoint.uninstall()
    names = ("__init__", "add_generic_rpc_handlers", "add_registered_method_handlers")
    original = {name: getattr(module._Server, name) for name in names}
    reject = module._reject_rpc

    assert pinchpoint.install()
    assert pinchpoint.install()
    assert all(getattr(module._Server, name) is not original[name] for name in names)
    pinchpoint.uninstall()
    pinchpoint.uninstall()

    assert {name: getattr(module._Server, name) for name in names} == original
    assert module._reject_rpc is reject


def test_a_server_goes_on_unwatched_after_uninstall(probe: ProcessProbe, ring_dir: Path) -> None:
    """It has its own pool back, and no further record is written."""
    with serving({"Echo": unary(echo, request_deserializer=same)}) as served:
        served.call("Echo")
        ring_with(ring_dir, lambda found: found.requests())
        pinchpoint.uninstall()
        assert served.server._state.thread_pool is served.pool  # type: ignore[attr-defined]
        assert [served.call("Echo") for _ in range(3)] == [b"x"] * 3
        assert len(the_ring(ring_dir).requests()) == 1


def test_a_pool_is_freed_with_its_server(probe: ProcessProbe) -> None:
    """The probe keeps no server and no pool alive, not even until the next collection."""
    gc.disable()
    try:
        pool = ThreadPoolExecutor(1)
        pool_of = ref(pool)
        server = grpc.server(pool)
        del pool, server
        assert until(lambda: pool_of() is None)
    finally:
        gc.enable()


def test_disabled_by_environment_nothing_is_installed(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable switches it off without another deployment."""
    monkeypatch.setenv(activate.DISABLE, "1")
    monkeypatch.setenv(activate.RING_DIR, str(ring_dir))
    assert not pinchpoint.install()
    with serving({"Echo": unary(echo)}) as served:
        assert served.call("Echo") == b"x"
    assert ring_files(ring_dir) == []


# The probe breaks, the server does not

SERVE_AND_REPORT = (
    ECHO_SERVER
    + """
installed = pinchpoint.install()
server, port = echo_server()
say(installed, call_echo(port, 5))
server.stop(None).wait()
"""
)


def test_a_missing_parent_directory_costs_the_probe_only(tmp_path: Path) -> None:
    """One sentence on standard error says what to do."""
    done = run(SERVE_AND_REPORT, tmp_path / "no" / "rings")
    assert done.stdout.split() == ["True", "5"]
    assert "make the directory writable or set PINCHPOINT_RING_DIR" in done.stderr
    assert done.stderr.count("pinchpoint:") == 1
    assert done.returncode == 0


def test_a_file_in_the_place_of_the_directory_costs_the_probe_only(tmp_path: Path) -> None:
    """As if it were missing."""
    (tmp_path / "rings").write_text("", "utf-8")
    done = run(SERVE_AND_REPORT, tmp_path / "rings")
    assert done.stdout.split() == ["True", "5"]
    assert "the probe is off" in done.stderr


def test_a_full_directory_costs_the_probe_only(tmp_path: Path) -> None:
    """No room for a ring."""
    with tiny_tmpfs(tmp_path) as directory:
        done = run(SERVE_AND_REPORT, directory)
    assert done.stdout.split() == ["True", "5"]
    assert "No space left on device" in done.stderr


def test_a_good_directory_says_nothing_at_all(ring_dir: Path) -> None:
    """The negative twin: a probe that works is silent."""
    done = run(SERVE_AND_REPORT, ring_dir)
    assert (done.stdout.split(), done.stderr) == (["True", "5"], "")
    assert len(the_ring(ring_dir).requests(ECHO)) == 5


class Broken(Exception):
    """What a defect of ours would raise."""


class BrokenRecorder(Recorder):
    """Fails in one of its methods."""

    def __init__(self, directory: Path, broken: str) -> None:
        super().__init__(directory, GcWatch(), NoModels())
        self._failing = broken

    def _fail(self, name: str) -> None:
        if self._failing == name:
            raise Broken(name)

    def intern(self, kind: NameKind, text: str, detail: int = 0) -> int:
        self._fail("intern")
        return super().intern(kind, text, detail)

    def request(self, call: Call, status: int, now_ns: int) -> None:
        self._fail("request")
        super().request(call, status, now_ns)

    def detail(self, *args: Any) -> None:
        self._fail("detail")
        super().detail(*args)


def _serve_under(hook: GrpcServerProbe) -> None:
    """Five good RPCs and a rejected one, with the hook in place."""
    import grpc._server as module

    hook.install(module)
    try:
        handlers = {"Echo": unary(echo, request_deserializer=same, response_serializer=same)}
        with serving(handlers) as served:
            assert [served.call("Echo") for _ in range(5)] == [b"x"] * 5
            assert served.code("Missing") is grpc.StatusCode.UNIMPLEMENTED
            assert until(lambda: not hook.active)
    finally:
        hook.uninstall()


@pytest.mark.parametrize("broken", ["intern", "request", "detail"])
def test_a_recorder_that_raises_costs_no_rpc(ring_dir: Path, broken: str) -> None:
    """The error is counted once, the part stays off, every client is served."""
    part = Part("grpc")
    recorder = BrokenRecorder(ring_dir, broken)
    _serve_under(GrpcServerProbe(part, lambda: recorder, set()))
    recorder.close()
    assert part.errors >= 1
    assert not part.enabled
    assert part.last_error == f"Broken: {broken}"


def test_a_recorder_that_cannot_be_made_costs_no_rpc() -> None:
    """The first server of the process meets a defect in our start."""

    def start() -> Recorder:
        raise Broken("start")

    part = Part("grpc")
    _serve_under(GrpcServerProbe(part, start, set()))
    assert (part.errors, part.enabled) == (1, False)


def test_a_torch_part_that_raises_costs_no_rpc(ring_dir: Path) -> None:
    """What runs right before the handler."""

    class Models(NoModels):
        pending = True

        def before_handler(self) -> None:
            raise Broken("before")

    part = Part("grpc")
    recorder = Recorder(ring_dir, GcWatch(), Models())
    _serve_under(GrpcServerProbe(part, lambda: recorder, set()))
    recorder.close()
    assert part.errors >= 1
    assert not part.enabled


@pytest.mark.parametrize(
    "boundary",
    ["start", "behaviour_begins", "behaviour_ended", "enter", "finish"],
)
def test_a_boundary_that_raises_costs_no_rpc(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    """Each place where an RPC passes through us, broken in turn."""

    def fail(*_args: Any) -> None:
        raise Broken(boundary)

    # No constructor reaches into the middle of a call.
    monkeypatch.setattr(Call, boundary, fail)
    part = Part("grpc")
    recorder = Recorder(ring_dir, GcWatch(), NoModels())
    _serve_under(GrpcServerProbe(part, lambda: recorder, set()))
    recorder.close()
    assert part.errors >= 1
    assert not part.enabled


def test_a_serializer_that_gives_no_bytes_is_not_our_error(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The server is wrong; the probe says what the client saw and stays on."""
    handlers = {
        "None": unary(echo, response_serializer=lambda _: None),
        "Raises": unary(echo, response_serializer=lambda _: 1 // 0),
    }
    with serving(handlers) as served:
        assert served.code("None") is grpc.StatusCode.INTERNAL
        assert served.code("Raises") is grpc.StatusCode.INTERNAL
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
    assert [GRPC_CODES[r.status] for r in ring.requests()] == ["INTERNAL"] * 2
    assert probe._grpc.part.enabled


# Forks

FORK_BEFORE = (
    ECHO_SERVER
    + """
import os
pinchpoint.install()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        server, port = echo_server()
        done = call_echo(port, 3)
        server.stop(None).wait()
        os._exit(0 if done == 3 else 1)
    children.append(child)
say(*[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
)


def test_workers_forked_before_their_server_have_a_ring_each(ring_dir: Path) -> None:
    """Prefork servers: the parent, which serves nothing, has none."""
    done = run(FORK_BEFORE, ring_dir)
    assert done.stdout.split() == ["0", "0"], done.stderr
    rings = [contents(path) for path in ring_files(ring_dir)]
    assert len({ring.process_id for ring in rings}) == 2
    assert [len(ring.requests(ECHO)) for ring in rings] == [3, 3]


FORK_AFTER = (
    ECHO_SERVER
    + """
import os, threading
from pinchpoint.probe import activate
pinchpoint.install()
server = grpc.server(ThreadPoolExecutor(1))
parents = activate._Installed.activation.probe._recorder.writer.path
child = os.fork()
if child == 0:
    probe = activate._Installed.activation.probe
    assert probe._recorder is None and not probe._grpc.pools()
    other = grpc.server(ThreadPoolExecutor(1))
    assert probe._recorder.writer.path != parents
    names = {thread.name for thread in threading.enumerate()}
    assert {"pinchpoint-heartbeat", "pinchpoint-sampler"} <= names
    os._exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
)


def test_a_child_forked_after_a_server_was_made_starts_again(ring_dir: Path) -> None:
    """It lets go of its parent's ring, and its own server gets one of its own."""
    done = run(FORK_AFTER, ring_dir, GRPC_ENABLE_FORK_SUPPORT="false")
    assert done.stdout.split() == ["0"], done.stderr
    assert len(ring_files(ring_dir)) == 2


FORK_AND_DIE = (
    ECHO_SERVER
    + """
import os, time
pinchpoint.install()
server = grpc.server(ThreadPoolExecutor(1))
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
say(child)
sys.stdin.readline()
"""
)


def test_a_forked_child_does_not_make_its_dead_parent_look_alive(ring_dir: Path) -> None:
    """The child lives on; the agent must see that the server is gone."""
    with running(FORK_AND_DIE, ring_dir, GRPC_ENABLE_FORK_SUPPORT="false") as parent:
        child = int(parent.line())
        (path,) = ring_files(ring_dir)
        reader = RingReader(path)
        assert reader.writer_alive()
        parent.kill()
        assert until(lambda: not reader.writer_alive())
        assert Path(f"/proc/{child}").exists()
        reader.close()
