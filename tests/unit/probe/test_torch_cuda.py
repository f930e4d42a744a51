from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from pinchpoint.probe.guard import Part
from pinchpoint.probe.torch_cuda import FORGET_NS, TIMINGS_MAX, DeviceTimes, Pending
from tests.support.fake_cuda import FakeCuda, FakeDevice
from tests.support.waiting import LIMIT_SECONDS

GPU = FakeDevice(0)


def times_of(cuda: FakeCuda) -> DeviceTimes:
    times = DeviceTimes(Part("torch_cuda"))
    times.install(SimpleNamespace(cuda=cuda))
    return times


def forward(
    times: DeviceTimes, cuda: FakeCuda, milliseconds: float, device: FakeDevice = GPU
) -> bool:
    timing = times.begin(device)
    cuda.launch(milliseconds, device)
    if timing is None or not times.end(timing):
        return False
    times.submit(Pending(timing, 1, 2, 3, 0, 4))
    return True


def device_ms(times: DeviceTimes) -> list[float]:
    return [event.device_ns / 1e6 for event in times.poll(0)]


def test_a_forward_has_the_time_that_its_device_took() -> None:
    """Once the device has ended it, not before, and without the work enqueued ahead of it."""
    cuda = FakeCuda()
    times = times_of(cuda)
    cuda.launch(7.0)
    assert forward(times, cuda, 2.0)
    assert device_ms(times) == []
    cuda.now_ms = 8.9
    assert device_ms(times) == []
    cuda.now_ms = 9.0
    assert device_ms(times) == [2.0]
    assert device_ms(times) == []


def test_nobody_waits_for_the_device() -> None:
    """Neither the forward nor the poll."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 2.0)
    cuda.now_ms = 2.0
    assert device_ms(times) == [2.0]
    assert cuda.waits == 0


def test_a_slow_device_does_not_hold_up_another() -> None:
    """Each has its own line."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 100.0, FakeDevice(0))
    assert forward(times, cuda, 2.0, FakeDevice(1))
    cuda.now_ms = 5.0
    assert device_ms(times) == [2.0]


def test_polling_makes_no_context_on_another_device() -> None:
    """A context costs hundreds of megabytes."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 2.0, FakeDevice(3))
    cuda.now_ms = 2.0
    poller = threading.Thread(target=times.poll, args=(0,))
    poller.start()
    poller.join(LIMIT_SECONDS)
    assert cuda.contexts == {3}


@pytest.mark.parametrize(
    ("initialized", "device"), [(False, GPU), (True, FakeDevice(0, "cpu")), (True, None)]
)
def test_what_runs_elsewhere_is_not_timed(initialized: bool, device: FakeDevice | None) -> None:
    """CUDA is touched only where the server uses it already."""
    assert times_of(FakeCuda(initialized=initialized)).begin(device) is None


def test_no_event_is_recorded_into_a_graph() -> None:
    """Neither one that torch captures nor one that another library does."""
    cuda = FakeCuda()
    times = times_of(cuda)
    graph = cuda.CUDAGraph()
    graph.capture_begin()
    assert times.begin(GPU) is None
    graph.capture_end()
    cuda._capturing.add(cuda.current_stream())
    assert times.begin(GPU) is None
    cuda._capturing.clear()
    assert times.begin(GPU) is not None
    assert cuda.broken_captures == 0


def test_a_forward_in_which_a_capture_begins_is_not_timed() -> None:
    """Its events are free again."""
    cuda = FakeCuda()
    times = times_of(cuda)
    for _ in range(2 * TIMINGS_MAX):
        timing = times.begin(GPU)
        assert timing is not None
        graph = cuda.CUDAGraph()
        graph.capture_begin()
        assert not times.end(timing)
        graph.capture_end()


def test_a_capture_that_could_not_begin_is_not_counted() -> None:
    """Or nothing would ever be timed again."""
    cuda = FakeCuda()
    times = times_of(cuda)
    first, second = cuda.CUDAGraph(), cuda.CUDAGraph()
    first.capture_begin()
    with pytest.raises(RuntimeError, match="captured already"):
        second.capture_begin()
    first.capture_end()
    assert forward(times, cuda, 1.0)


def test_a_capture_that_failed_has_ended() -> None:
    """What broke it is the server's to see."""
    cuda = FakeCuda()
    times = times_of(cuda)
    graph = cuda.CUDAGraph()
    graph.capture_begin()
    cuda._broken.add(cuda.current_stream())
    with pytest.raises(RuntimeError, match="during capture"):
        graph.capture_end()
    assert forward(times, cuda, 1.0)


def test_a_capture_waits_for_the_query_in_progress_and_then_begins() -> None:
    """The one race there is: the query must end before the capture begins."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 1.0)
    cuda.now_ms = 1.0
    asked, answer, captured = (threading.Event() for _ in range(3))

    def in_query() -> None:
        asked.set()
        assert answer.wait(LIMIT_SECONDS)

    def capture() -> None:
        cuda.CUDAGraph().capture_begin()
        captured.set()

    cuda.on_query = in_query
    threads = [threading.Thread(target=run) for run in (lambda: times.poll(0), capture)]
    threads[0].start()
    assert asked.wait(LIMIT_SECONDS)
    threads[1].start()
    assert not captured.wait(0.05)
    answer.set()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert captured.is_set()
    assert cuda.broken_captures == 0


def test_captures_and_polls_at_the_same_time_break_nothing() -> None:
    """Many of both, in every order that comes about."""
    cuda = FakeCuda()
    times = times_of(cuda)
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            cuda.now_ms += 1.0
            times.poll(0)

    def serve() -> None:
        while not stop.is_set():
            forward(times, cuda, 1.0)

    def capture() -> None:
        for _ in range(300):
            graph = cuda.CUDAGraph()
            graph.capture_begin()
            graph.capture_end()

    others = [threading.Thread(target=run) for run in (poll, serve)]
    captures = [threading.Thread(target=capture) for _ in range(2)]
    for thread in others + captures:
        thread.start()
    for thread in captures:
        thread.join(LIMIT_SECONDS)
    stop.set()
    for thread in others:
        thread.join(LIMIT_SECONDS)
    assert cuda.broken_captures == 0
    assert times.part.enabled


def test_forwards_beyond_the_pool_are_not_timed() -> None:
    """Until the device has ended some."""
    cuda = FakeCuda()
    times = times_of(cuda)
    timed = [forward(times, cuda, 1.0) for _ in range(TIMINGS_MAX + 5)]
    assert timed.count(True) == TIMINGS_MAX
    cuda.now_ms = 1000.0
    assert len(times.poll(0)) == TIMINGS_MAX
    assert forward(times, cuda, 1.0)


def test_a_forward_that_hangs_is_given_up() -> None:
    """Its events serve others."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 1e9)
    assert times.poll(FORGET_NS - 1) == []
    assert len(times._pools[GPU].pending) == 1
    assert times.poll(FORGET_NS) == []
    assert len(times._pools[GPU].pending) == 0
    assert len(times._pools[GPU].free) == 1


def test_an_error_while_recording_switches_device_times_off() -> None:
    """The forward goes on without."""
    cuda = FakeCuda()
    times = times_of(cuda)
    cuda.error = RuntimeError("an illegal memory access was encountered")
    assert times.begin(GPU) is None
    assert (times.part.enabled, times.part.errors) == (False, 1)
    assert times.begin(GPU) is None


def test_an_error_while_polling_reaches_the_sampler() -> None:
    """It owns the guard's part of the same name."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 1.0)
    cuda.error = RuntimeError("an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory"):
        times.poll(0)


def test_a_forked_child_begins_anew() -> None:
    """The parent's events are neither asked nor freed there."""
    cuda = FakeCuda()
    times = times_of(cuda)
    assert forward(times, cuda, 1.0)
    pools = times._pools
    times.forget()
    cuda.now_ms = 1.0
    assert times.poll(0) == []
    assert pools in times._lost


def test_the_capability_is_asked_once_and_never_in_a_capture() -> None:
    """It is a call to the driver."""
    cuda = FakeCuda(capability=(8, 6))
    times = times_of(cuda)
    graph = cuda.CUDAGraph()
    graph.capture_begin()
    assert times.capability(GPU) is None
    graph.capture_end()
    assert times.capability(GPU) == (8, 6)
    graph.capture_begin()
    assert times.capability(GPU) == (8, 6)
    assert cuda.broken_captures == 0


def test_uninstall_puts_the_captures_back() -> None:
    """Nothing of ours stays in torch.cuda."""
    cuda = FakeCuda()
    before = cuda.CUDAGraph.capture_begin, cuda.CUDAGraph.capture_end
    times = times_of(cuda)
    assert cuda.CUDAGraph.capture_begin is not before[0]
    times.uninstall()
    assert (cuda.CUDAGraph.capture_begin, cuda.CUDAGraph.capture_end) == before
