"""The probe breaks in every place, and no client can tell."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import grpc
import pytest

import pinchpoint
from pinchpoint.probe import grpc_server, stages
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.probe.recorder import Recorder
from pinchpoint.ring.reader import RingReader
from tests.support.rings import ring_files
from tests.support.scripts import ECHO_SERVER, run
from tests.support.servers import SERVICE, Served, serving
from tests.support.tmpfs import tiny_tmpfs
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration


# What the clients do, and see


def same(data: bytes) -> bytes:
    if data == b"unreadable":
        raise ValueError("cannot read this")
    return bytes(bytearray(data))


def write(data: bytes) -> bytes:
    if data == b"unwritable":
        raise ValueError("cannot write this")
    return data


def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("trailing", "value"),))
    if request == b"abort":
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing")
    if request == b"code":
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)
    if request == b"raise":
        raise RuntimeError("ours")
    return request


def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(3):
        with pinchpoint.stage("message"):
            yield b"%d" % number
    yield answer(request, context)


def push(request: bytes, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
    """A handler of grpcio's that does not block: it is called with where its messages go."""
    for number in range(3):
        send(b"%d" % number)
    if request == b"raise":
        raise RuntimeError("ours")
    send(None)


push.experimental_non_blocking = True  # type: ignore[attr-defined]


@pinchpoint.stage("answer")
def staged(request: bytes, context: grpc.ServicerContext) -> bytes:
    with pinchpoint.stage("inner"):
        return answer(request, context)


def last(requests: Iterator[bytes]) -> bytes:
    return list(requests)[-1]


def handlers() -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    ends = {"request_deserializer": same, "response_serializer": write}
    return {
        "Unary": grpc.unary_unary_rpc_method_handler(answer, **ends),
        "Staged": grpc.unary_unary_rpc_method_handler(staged, **ends),
        "Out": grpc.unary_stream_rpc_method_handler(stream, **ends),
        "Push": grpc.unary_stream_rpc_method_handler(push, **ends),
        "In": grpc.stream_unary_rpc_method_handler(
            lambda requests, context: answer(last(requests), context), **ends
        ),
        "Both": grpc.stream_stream_rpc_method_handler(
            lambda requests, context: stream(last(requests), context), **ends
        ),
    }


ENDS = (b"fine", b"abort", b"code", b"raise", b"unwritable")
RPCS = [
    *((method, end) for method in ("Unary", "Out", "In", "Both") for end in ENDS),
    # Not in a stream of requests: grpcio may then never end the RPC, nor its server.
    *((method, b"unreadable") for method in ("Unary", "Out")),
    *(("Push", end) for end in (b"fine", b"raise", b"unreadable")),
    ("Staged", b"fine"),
    ("Staged", b"raise"),
    ("Missing", b"fine"),
]


def outcome(channel: Any, method: str, request: bytes) -> Any:
    """All that the client of an RPC sees."""
    path = f"/{SERVICE}/{method}"
    received: list[bytes] = []
    try:
        if method in ("Out", "Push"):
            seen = channel.unary_stream(path)(request, timeout=LIMIT_SECONDS)
            received.extend(seen)
        elif method == "In":
            start = channel.stream_unary(path).with_call
            response, seen = start(iter([b"1", request]), timeout=LIMIT_SECONDS)
            received.append(response)
        elif method == "Both":
            seen = channel.stream_stream(path)(iter([b"1", request]), timeout=LIMIT_SECONDS)
            received.extend(seen)
        else:
            start = channel.unary_unary(path).with_call
            response, seen = start(request, timeout=LIMIT_SECONDS)
            received.append(response)
    except grpc.RpcError as error:
        seen = error  # a failed call is its own error
    trailing = [value for key, value in seen.trailing_metadata() or () if key == "trailing"]
    return method, request, seen.code(), seen.details(), received, trailing


def outcomes(served: Served) -> list[Any]:
    """Of one RPC of each kind and end, and one that its client gives up after a message."""
    seen = [outcome(served.channel, method, request) for method, request in RPCS]
    given_up = served.channel.stream_stream(f"/{SERVICE}/Both")(iter([b"1"]))
    seen.append((next(given_up), given_up.cancel(), given_up.code()))
    return seen


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """What handlers raise is logged by grpcio."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """What clients see without the probe."""
    with serving(handlers()) as served:
        seen = outcomes(served)
    codes = {(method, request): code for method, request, code, *_ in seen[:-1]}
    for method in ("Unary", "Out", "In", "Both", "Push", "Staged"):
        assert codes[method, b"fine"] is grpc.StatusCode.OK
    assert codes["Both", b"abort"] is grpc.StatusCode.NOT_FOUND
    assert codes["Missing", b"fine"] is grpc.StatusCode.UNIMPLEMENTED
    assert seen[-1] == (b"0", True, grpc.StatusCode.CANCELLED)
    return seen


# Every place that can break


NOT_BROKEN = {"pinchpoint.probe.guard", "pinchpoint.probe.patches"}
"""The guard itself, and what replaces grpcio's functions before there is any RPC."""


def modules(*entries: ModuleType) -> list[ModuleType]:
    """The modules of the probe that these use, themselves included."""
    found: dict[str, ModuleType] = {}
    waiting = [*entries]
    while waiting:
        module = waiting.pop()
        if module.__name__ in found or module.__name__ in NOT_BROKEN:
            continue
        found[module.__name__] = module
        used = {getattr(value, "__module__", None) for value in vars(module).values()}
        waiting += [
            sys.modules[name]
            for name in used
            if isinstance(name, str) and name.startswith("pinchpoint.probe.")
        ]
    return list(found.values())


GUARDS = {
    "PoolProxy.submit": "stands in the server's flow and calls its pool",
    "PoolProxy._submit_other": "the same",
    "PoolProxy.__init__": "made inside the guard of who makes it, used by no RPC",
    "Rpc.run": "stands in the server's flow and calls its function",
    "Rpc.behave": "calls the handler",
    "Rpc._begin_stream": "calls the handler",
    "pool_proxy._call": "calls the server's function",
    "GrpcServerProbe.install": "no RPC passes it",
    "GrpcServerProbe.uninstall": "no RPC passes it",
    "Stage.__call__": "decorates the server's function at its import",
    "stages._make": "raises what the server is to see",
    "stages.stage": "raises what the server is to see",
    "ThreadState.__init__": "half made, it cannot be finalised: Python says so and goes on",
}
"""What is not broken here, and why: it is where the guard is. The mutation run
(`scripts/mutate-guard`) takes the guard out of it instead."""


class Place(NamedTuple):
    """A function of ours, by the object that it is an attribute of."""

    owner: Any
    name: str

    @property
    def label(self) -> str:
        owner = self.owner.__name__.rpartition(".")[2]
        return f"{owner}.{self.name}"


def places() -> list[Place]:
    """Methods of the probe's classes, and the functions that its modules call by name."""
    found: dict[str, Place] = {}
    for module in modules(grpc_server, stages):
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if inspect.isclass(value) and own and not issubclass(value, tuple):
                for method, function in vars(value).items():
                    if isinstance(function, FunctionType) and not (
                        method.startswith("__") and method not in ("__init__",)
                    ):
                        place = Place(value, method)
                        found[place.label] = place
            elif callable(value) and not inspect.isclass(value) and not name.startswith("__"):
                place = Place(module, name)
                found[place.label] = place
    return [place for label, place in sorted(found.items()) if label not in GUARDS]


class Broken(Exception):
    """What a defect of ours would raise."""


SLOW_SECONDS = 0.005
LATER_CALLS = 9

Fault = Callable[[int], None]
"""Called with the number of earlier calls, in place of or before the function."""


def raises(_calls: int) -> None:
    raise Broken("ours")


def runs_out_of_memory(_calls: int) -> None:
    raise MemoryError


def raises_later(calls: int) -> None:
    if calls > LATER_CALLS:
        raise Broken("ours")


def raises_now_and_then(calls: int) -> None:
    if calls % 3 == 2:
        raise Broken("ours")


def is_slow(calls: int) -> None:
    end = time.monotonic() + SLOW_SECONDS
    while calls < 3 and time.monotonic() < end:
        pass


@contextmanager
def broken(place: Place, fault: Fault, hits: Counter[str]) -> Iterator[None]:
    """The probe with a fault in one place."""
    original = getattr(place.owner, place.name)

    @functools.wraps(original, updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        calls = hits[place.label]
        hits[place.label] += 1
        fault(calls)
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place.owner, place.name, faulty)
        yield


adapt = Recorder.adapt


def errors(probe: ProcessProbe) -> list[str]:
    """Of all parts but torch's, which sees no server."""
    parts = [part for name, part in probe._guard.parts.items() if "torch" not in name]
    return [f"{part.name}: {part.last_error}" for part in parts if part.errors]


def test_the_faults_reach_every_class_of_the_path(probe: ProcessProbe, expected: list[Any]) -> None:
    """A list of places that no RPC passes would prove nothing."""
    hits: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for place in places():
            patch.setattr(place.owner, place.name, _counting(place, hits))
        with serving(handlers()) as served:
            assert outcomes(served) == expected
            assert until(lambda: not probe._active)
    assert errors(probe) == []
    reached = {label.partition(".")[0] for label in hits}
    assert reached >= {
        "Call", "Rpc", "Recorder", "StageClocks", "StreamMeter", "Methods",
        "GrpcServerProbe", "ThreadState", "Stages", "grpc_rpc", "call",
    }  # fmt: skip
    assert len(hits) >= 40


def _counting(place: Place, hits: Counter[str]) -> Callable[..., Any]:
    original = getattr(place.owner, place.name)

    @functools.wraps(original, updated=())
    def counting(*args: Any, **kwargs: Any) -> Any:
        hits[place.label] += 1
        return original(*args, **kwargs)

    return counting


@pytest.mark.parametrize("place", places(), ids=lambda place: place.label)
def test_a_fault_while_serving_costs_no_rpc(
    probe: ProcessProbe, expected: list[Any], place: Place
) -> None:
    """Whatever it is; of sampled requests and of others. Most places are passed by all RPCs, some
    by none: those are not broken in every way."""
    reached = False
    with serving(handlers()) as served:
        for fault in (raises, runs_out_of_memory, raises_later, raises_now_and_then):
            for sample in (1.0, 1e18):
                assert probe._recorder is not None
                adapt(probe._recorder, sample)
                for part in probe._guard.parts.values():
                    part.enabled, part.errors = True, 0
                hits: Counter[str] = Counter()
                with broken(place, fault, hits):
                    assert outcomes(served) == expected
                    # After the client has its answer, too: nothing but a part sees it.
                    assert fault is not raises or until(lambda: errors(probe) or not hits)  # noqa: B023
                reached = reached or bool(hits)
            if not reached:
                return


@pytest.mark.parametrize("fault", [raises, is_slow])
@pytest.mark.parametrize("place", places(), ids=lambda place: place.label)
def test_a_fault_from_the_start_costs_no_rpc(
    probe: ProcessProbe, expected: list[Any], place: Place, fault: Fault
) -> None:
    """The server is made and its methods are registered with the fault in place."""
    hits: Counter[str] = Counter()
    for generic in (True, False):
        for part in probe._guard.parts.values():
            part.enabled = True
        with broken(place, fault, hits), serving(handlers(), generic=generic) as served:
            assert outcomes(served) == expected
    if fault is is_slow:
        assert errors(probe) == []
    else:
        assert errors(probe) or not hits


class Faulty:
    """Models that fail when a handler is about to run."""

    pending = True

    def before_handler(self) -> None:
        raise Broken("models")


@pytest.mark.parametrize("sample", [1.0, 1e18])
def test_models_that_cannot_be_looked_up_cost_no_rpc(
    probe: ProcessProbe, expected: list[Any], sample: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right before a handler runs, of a sampled request and of any other."""
    recorder = probe._start()
    recorder.models = Faulty()
    adapt(recorder, sample)
    monkeypatch.setattr(recorder, "adapt", lambda *_rate: None)  # the sampler's, in any second
    with serving(handlers()) as served:
        assert outcomes(served) == expected
    assert errors(probe)


# The world around the probe breaks

SERVE_AND_REPORT = (
    ECHO_SERVER
    + """
installed = pinchpoint.install()
server, port = echo_server()
say(installed, call_echo(port, 5))
server.stop(None).wait()
"""
)


def test_a_ring_directory_that_vanishes_costs_no_rpc(
    probe: ProcessProbe, ring_dir: Path, expected: list[Any]
) -> None:
    """Somebody tidies up under a running server."""
    with serving(handlers()) as served:
        assert outcomes(served) == expected
        shutil.rmtree(ring_dir)
        assert outcomes(served) == expected
        _after_the_next_second(probe)
        assert outcomes(served) == expected
    assert errors(probe) == []


def _after_the_next_second(probe: ProcessProbe) -> None:
    """Until the sampler has run through all of its second once more."""
    writer = probe._recorder.writer if probe._recorder is not None else None
    assert writer is not None
    begun = writer._anchor_sequence
    assert until(lambda: writer._anchor_sequence >= begun + 2)


def test_a_file_system_that_fills_up_costs_no_rpc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: list[Any]
) -> None:
    """The ring has all of its blocks from its start: no store into it can fail."""
    with tiny_tmpfs(tmp_path, "size=8m") as directory:
        monkeypatch.setenv("PINCHPOINT_RING_DIR", str(directory))
        assert pinchpoint.install()
        try:
            with serving(handlers()) as served:
                assert outcomes(served) == expected
                with (directory / "full").open("wb", buffering=0) as full:
                    assert until(lambda: _is_full(full))
                for _ in range(20):
                    assert outcomes(served) == expected
        finally:
            pinchpoint.uninstall()
        (path,) = ring_files(directory)
        reader = RingReader(path, from_start=True)
        assert reader.header.process_id == os.getpid()
        reader.close()


def _is_full(file: FileIO) -> bool:
    try:
        return not file.write(b"x" * 65536)
    except OSError as error:
        return error.errno == errno.ENOSPC


@pytest.mark.parametrize("options", ["ro", "size=64k", "size=4k,nr_inodes=1"])
def test_a_file_system_without_room_costs_the_probe_only(tmp_path: Path, options: str) -> None:
    """Read-only, too small, without inodes: one sentence, and all RPCs."""
    with tiny_tmpfs(tmp_path, options) as directory:
        done = run(SERVE_AND_REPORT, directory)
        assert list(directory.iterdir()) == []
    assert done.stdout.split() == ["True", "5"]
    assert done.stderr.count("pinchpoint: the probe is off") == 1


AS_NOBODY = """
import os
# What is imported later may lie where nobody can read it.
grpc.insecure_channel("127.0.0.1:1").close()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as two users")


@needs_root
def test_a_ring_directory_of_another_user_costs_the_probe_only(ring_dir: Path) -> None:
    """The server has another user than who made the directory."""
    _open_the_way_to(ring_dir)
    program = SERVE_AND_REPORT.replace("server, port =", AS_NOBODY + "server, port =")
    done = run(program, ring_dir)
    assert done.stdout.split() == ["True", "5"], done.stderr
    assert "not writable" in done.stderr
    assert ring_files(ring_dir) == []


def _open_the_way_to(directory: Path) -> None:
    for parent in directory.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


TRY_TO_HARM = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path = sys.stdin.readline().strip()
for harm in (
    lambda: os.truncate(path, 0),
    lambda: os.close(os.open(path, os.O_WRONLY)),
    lambda: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)),
    lambda: os.chmod(path, 0o666),
):
    try:
        harm()
        print("done")
    except PermissionError:
        print("refused")
"""


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
def test_nobody_but_its_owner_can_cut_a_ring_short(
    probe: ProcessProbe, ring_dir: Path, mode: int
) -> None:
    """That would be SIGBUS. It holds in directories that others may write to as well."""
    ring_dir.chmod(mode)
    _open_the_way_to(ring_dir)
    previous = os.umask(0)
    try:
        with serving(handlers()):
            (path,) = ring_files(ring_dir)
            program = TRY_TO_HARM.replace("sys.stdin.readline().strip()", repr(str(path)))
            done = run(program, ring_dir)
    finally:
        os.umask(previous)
    assert done.stdout.split() == ["refused"] * 4, done.stderr
    assert path.stat().st_mode & 0o777 == 0o644
