from __future__ import annotations

import gc
import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from pinchpoint.samplers import stacks
from pinchpoint.samplers.code_origin import Origin
from pinchpoint.samplers.kernel_wait import KernelView, KernelWait
from pinchpoint.samplers.stacks import (
    LOCATIONS_MAX,
    THREADS_MAX,
    ActiveThread,
    StackSampler,
    Wait,
    categorise,
)
from pinchpoint.schema.events import StackEvent
from pinchpoint.schema.terms import STAGE_INDEX, WAIT_CATEGORIES
from tests.unit.samplers.support import Names, until

FORWARD = STAGE_INDEX["forward"]


class Watch:
    """A stack sampler that looks at one thread."""

    def __init__(self, thread: threading.Thread, kernel: KernelView | None = None) -> None:
        assert thread.ident is not None
        assert thread.native_id is not None
        active = ActiveThread(thread.ident, thread.native_id, 7, FORWARD)
        self.names = Names()
        self.sampler = StackSampler(lambda: [active], self.names, kernel)
        self.last: StackEvent | None = None

    def category(self) -> str:
        (self.last,) = self.sampler.sample(5)
        return WAIT_CATEGORIES[self.last.category]

    def location(self) -> str:
        assert self.last is not None
        return self.names.text(self.last.location_id)

    def comes_to(self, category: str) -> bool:
        """Seen so once."""
        return until(lambda: self.category() == category)

    def settles_on(self, category: str) -> bool:
        """Seen so once while it begins to wait, and then again: one that waits until the end."""
        return self.comes_to(category) and self.category() == category


@contextmanager
def working(work: Callable[[], object], release: Callable[[], object]) -> Iterator[Watch]:
    """A thread that does `work` until `release` makes it return."""
    thread = threading.Thread(target=work)
    thread.start()
    watch = Watch(thread)
    try:
        yield watch
    finally:
        release()
        thread.join()
        watch.sampler.close()


@contextmanager
def repeating(step: Callable[[], object]) -> Iterator[Watch]:
    """A thread that does `step` again and again."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            step()

    with working(work, stop.set) as watch:
        yield watch


@pytest.fixture
def held() -> Iterator[threading.Lock]:
    lock = threading.Lock()
    lock.acquire()
    yield lock
    if lock.locked():
        lock.release()


def test_a_sleeping_thread_sleeps() -> None:
    with repeating(lambda: time.sleep(0.2)) as watch:
        assert watch.comes_to("sleep")
        assert watch.location().endswith(" -> sleep")


def test_a_select_without_descriptors_is_a_sleep() -> None:
    with repeating(lambda: select.select([], [], [], 0.2)) as watch:
        assert watch.comes_to("sleep")


def test_a_with_block_on_a_held_lock_waits_for_it(held: threading.Lock) -> None:
    def enter() -> None:
        with held:
            pass

    with working(enter, held.release) as watch:
        assert watch.settles_on("lock")
        assert watch.location().endswith("enter -> with")


def test_acquiring_a_held_lock_waits_for_it(held: threading.Lock) -> None:
    def take() -> None:
        held.acquire()

    with working(take, held.release) as watch:
        assert watch.settles_on("lock")
        assert watch.location().endswith("take -> acquire")
        assert "samplers/test_stacks.py:" in watch.location()


def test_acquiring_with_a_limit_is_a_wait_too(held: threading.Lock) -> None:
    with working(lambda: held.acquire(timeout=60), held.release) as watch:
        assert watch.settles_on("lock")


def test_waiting_on_a_condition_is_a_lock_and_shows_the_caller() -> None:
    condition, done = threading.Condition(), threading.Event()

    def wait_for_it() -> None:
        with condition:
            while not done.is_set():
                condition.wait(timeout=60)

    def release() -> None:
        done.set()
        with condition:
            condition.notify_all()

    with working(wait_for_it, release) as watch:
        assert watch.settles_on("lock")
        assert "wait_for_it -> wait" in watch.location()


@pytest.mark.parametrize("kind", [queue.Queue, queue.SimpleQueue])
def test_waiting_for_a_queue_is_a_lock(kind: Callable[[], queue.Queue[int]]) -> None:
    waiting = kind()

    def take() -> None:
        waiting.get()

    with working(take, lambda: waiting.put(1)) as watch:
        assert watch.settles_on("lock")


def test_waiting_for_a_future_is_a_lock() -> None:
    future: futures.Future[int] = futures.Future()
    with working(future.result, lambda: future.set_result(1)) as watch:
        assert watch.settles_on("lock")


@pytest.mark.parametrize("limit", [None, 60.0])
def test_receiving_from_a_socket_waits_for_it(limit: float | None) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(limit)
        with working(lambda: near.recv(1), lambda: far.send(b"x")) as watch:
            assert watch.settles_on("socket")
            assert watch.location().endswith(" -> recv")


def test_reading_a_socket_as_a_file_waits_for_it() -> None:
    near, far = socket.socketpair()
    with (
        near,
        far,
        near.makefile("rb") as file,
        working(lambda: file.read(1), lambda: far.send(b"x")) as watch,
    ):
        assert watch.settles_on("socket")


def test_reading_a_fifo_waits_for_a_peer_and_not_for_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    try:
        with working(lambda: os.read(fd, 1), lambda: os.write(fd, b"x")) as watch:
            assert watch.settles_on("socket")
    finally:
        os.close(fd)


def test_an_http_client_waits_as_a_client() -> None:
    http = pytest.importorskip("http.client")
    listener = socket.create_server(("127.0.0.1", 0))
    ended: list[OSError] = []

    def fetch() -> None:
        connection = http.HTTPConnection(*listener.getsockname())
        connection.request("GET", "/")
        try:
            connection.getresponse()
        except OSError as error:
            ended.append(error)
        connection.close()

    accepted: list[socket.socket] = []

    def release() -> None:
        accepted[0].close()

    with listener, working(fetch, release) as watch:
        accepted.append(listener.accept()[0])
        assert watch.settles_on("client")
        assert "fetch -> getresponse" in watch.location()
    assert len(ended) == 1


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_grpc_client_waits_as_a_client(limit: float | None) -> None:
    grpc = pytest.importorskip("grpc")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary("/silent.Server/Call")

    def ask() -> None:
        with pytest.raises((grpc.RpcError, ValueError)):
            call(b"", timeout=limit, wait_for_ready=True)

    with listener, working(ask, channel.close) as watch:
        assert watch.comes_to("client")  # it looks up five times a second
        assert " ask -> call" in watch.location()


def test_a_grpc_stream_that_is_read_waits_as_a_client() -> None:
    grpc = pytest.importorskip("grpc")
    listener = socket.create_server(("127.0.0.1", 0))
    channel = grpc.insecure_channel(f"127.0.0.1:{listener.getsockname()[1]}")
    answers = channel.unary_stream("/silent.Server/Call")(b"")

    def read() -> None:
        with pytest.raises(grpc.RpcError):
            next(answers)

    with listener, working(read, answers.cancel) as watch:
        assert watch.comes_to("client")
    channel.close()


def test_a_loop_in_python_runs_or_waits_for_the_interpreter() -> None:
    def count() -> None:
        for _ in range(1000):
            pass

    with repeating(count) as watch:
        # On a busy machine the kernel may show it runnable at every look.
        seen = {watch.category() for _ in range(20)}
        assert until(
            lambda: watch.category() in ("python", "running") and "count" in watch.location()
        )
    assert seen <= {"python", "running"}


def test_competing_for_the_interpreter_is_never_a_lock() -> None:
    table, words = {1: 2}, ["a", "b"]

    def look_up() -> None:
        for _ in range(100):
            table.get(1)
            " ".join(words)

    with repeating(look_up), repeating(look_up), repeating(look_up) as watch:
        seen = {watch.category() for _ in range(20)}
    assert seen <= {"python", "running"}


def test_a_layer_of_torch_is_torch() -> None:
    torch = pytest.importorskip("torch")
    layer, batch = torch.nn.Linear(1024, 1024), torch.ones(512, 1024)

    def forward() -> None:
        with torch.inference_mode():
            layer(batch)

    with repeating(forward) as watch:
        assert watch.comes_to("torch")
        assert "forward -> layer" in watch.location()


def test_work_in_native_code_runs() -> None:
    data = bytes(1 << 24)
    hashlib = pytest.importorskip("hashlib")
    with repeating(lambda: hashlib.sha256(data)) as watch:
        assert watch.comes_to("running")


def test_an_event_carries_what_the_thread_is_handling() -> None:
    with repeating(lambda: time.sleep(0.2)) as watch:
        assert watch.comes_to("sleep")
        event = watch.last
    assert event is not None
    assert (event.stage, event.method_id, event.time_ns) == (FORWARD, 7, 5)


def test_a_thread_that_has_ended_gives_no_event() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert thread.ident is not None
    gone = ActiveThread(thread.ident, 2**22 + 1, 0, 0)
    assert StackSampler(lambda: [gone], Names()).sample(0) == []


def test_no_frame_and_no_variable_is_kept() -> None:
    class Big:
        pass

    import gc
    import weakref

    kept: list[weakref.ref[Big]] = []
    lock = threading.Lock()
    lock.acquire()

    def hold() -> None:
        big = Big()
        kept.append(weakref.ref(big))
        with lock:
            del big

    gc.disable()
    try:
        with working(hold, lock.release) as watch:
            assert watch.settles_on("lock")
        assert kept[0]() is None
    finally:
        gc.enable()


def test_more_threads_than_the_cap_take_turns() -> None:
    me = threading.current_thread()
    assert me.ident is not None
    crowd = [ActiveThread(me.ident, me.native_id or 0, n, 0) for n in range(THREADS_MAX + 20)]
    sampler = StackSampler(lambda: crowd, Names())
    first, second = sampler.sample(0), sampler.sample(0)
    sampler.close()
    assert len(first) == len(second) == THREADS_MAX
    assert {e.method_id for e in first} | {e.method_id for e in second} == set(range(len(crowd)))


def test_locations_beyond_the_cap_are_id_zero() -> None:
    with repeating(lambda: time.sleep(0.2)) as watch:
        assert watch.comes_to("sleep")
        locations = watch.sampler._locations
        full = {str(number): number for number in range(1, LOCATIONS_MAX + 1)}
        locations._ids, locations._known = full, {}
        watch.category()
        assert watch.last is not None
        assert watch.last.location_id == 0


def test_without_the_kernels_view_the_called_name_decides(
    tmp_path: Path, held: threading.Lock
) -> None:
    def take() -> None:
        held.acquire()

    thread = threading.Thread(target=take)
    thread.start()
    (tmp_path / "self" / "task" / str(thread.native_id)).mkdir(parents=True)
    watch = Watch(thread, KernelView(tmp_path))
    assert watch.comes_to("lock")
    held.release()
    thread.join()


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (Wait(KernelWait.RUNNING, "recv", Origin.CLIENT, Origin.CLIENT), "running"),
        (Wait(KernelWait.RUNNING, "linear", Origin.TORCH, Origin.TORCH), "torch"),
        (Wait(KernelWait.DISK, "execute", Origin.CLIENT, Origin.CLIENT), "disk"),
        (Wait(KernelWait.SOCKET, "recv_into", Origin.GLUE, Origin.CLIENT), "client"),
        (Wait(KernelWait.SLEEP, "sleep", Origin.CLIENT, Origin.CLIENT), "client"),
        (Wait(KernelWait.FUTEX, "acquire", Origin.GLUE, Origin.CLIENT), "client"),
        (Wait(KernelWait.FUTEX, "acquire", Origin.GLUE, Origin.GRPC_SERVER), "socket"),
        (Wait(KernelWait.FUTEX, "acquire", Origin.GLUE, Origin.LIBRARY), "lock"),
        (Wait(KernelWait.FUTEX, "linear", Origin.TORCH, Origin.TORCH), "torch"),
        (Wait(KernelWait.FUTEX, "mm", Origin.OWN, Origin.OWN), "python"),
        (Wait(KernelWait.FUTEX_UNSURE, "recv_into", Origin.GLUE, Origin.CLIENT), "python"),
        (Wait(KernelWait.FUTEX_UNSURE, "get", Origin.OWN, Origin.OWN), "python"),
        (Wait(KernelWait.FUTEX_UNSURE, "with", Origin.OWN, Origin.OWN), "python"),
        (Wait(KernelWait.FUTEX_UNSURE, None, Origin.CLIENT, Origin.CLIENT), "python"),
        (Wait(KernelWait.FUTEX_UNSURE, "next_event", Origin.GRPC_CLIENT, Origin.GRPC_CLIENT),
         "client"),
        (Wait(KernelWait.OTHER, "waitpid", Origin.OWN, Origin.OWN), "unknown"),
        (Wait(KernelWait.UNREADABLE, "get", Origin.OWN, Origin.OWN), "python"),
        (Wait(KernelWait.UNREADABLE, "sleep", Origin.OWN, Origin.OWN), "sleep"),
        (Wait(KernelWait.UNREADABLE, "recv_into", Origin.GLUE, Origin.CLIENT), "client"),
        (Wait(KernelWait.UNREADABLE, "read", Origin.OWN, Origin.OWN), "python"),
        (Wait(KernelWait.UNREADABLE, "read", Origin.GLUE, Origin.OWN), "socket"),
    ],
)  # fmt: skip
def test_evidence_gives_the_category(wait: Wait, expected: str) -> None:
    assert categorise(wait) == expected


def test_no_collection_can_run_while_the_frames_of_all_threads_are_taken() -> None:
    """One that did would hang the process for ever before CPython 3.11.9 (issue 106883)."""
    enabled: list[bool] = []

    def snapshot() -> dict[int, FrameType]:
        enabled.append(gc.isenabled())
        return sys._current_frames()

    assert gc.isenabled()
    assert stacks._frame_of(threading.get_ident(), snapshot) is not None
    assert enabled == [sys.version_info >= (3, 11, 9)]
    assert gc.isenabled()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_look_leaves_the_collector_as_the_server_has_set_it(enabled: bool) -> None:
    """A server that has switched the collector off keeps it off."""
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        stacks._frame_of(threading.get_ident())
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
