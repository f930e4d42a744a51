"""What the probe relies on in torch.cuda: of the fake always, of a real GPU where there is one.

And on a real GPU, that the times are right and nothing is waited for.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pinchpoint.probe.guard import Part
from pinchpoint.probe.torch_cuda import DeviceTimes, Pending
from pinchpoint.schema.events import DeviceEvent
from tests.support.fake_cuda import FakeCuda, FakeDevice
from tests.support.waiting import LIMIT_SECONDS, until

torch: Any = pytest.importorskip("torch")


class Cuda(ABC):
    """A CUDA to run the checks on."""

    def __init__(self, api: Any, device: Any) -> None:
        self.api = api
        self.device = device

    @abstractmethod
    def work(self) -> None:
        """Enqueue some milliseconds of work on the calling thread's stream."""

    @abstractmethod
    def pass_time(self) -> None:
        """Let the device get on with its work, without waiting for it."""

    def recorded(self) -> Any:
        """An event behind everything that was enqueued by the calling thread."""
        event = self.api.Event(enable_timing=True)
        event.record(self.api.current_stream(self.device))
        return event


class Fake(Cuda):
    """The fake."""

    def __init__(self) -> None:
        super().__init__(FakeCuda(), FakeDevice(0))

    def work(self) -> None:
        self.api.launch(5.0, self.device)

    def pass_time(self) -> None:
        self.api.now_ms += 1.0


class Real(Cuda):
    """The real one."""

    def __init__(self) -> None:
        torch.cuda.init()
        super().__init__(torch.cuda, torch.device("cuda", torch.cuda.current_device()))

    def work(self) -> None:
        torch.cuda._sleep(20_000_000)

    def pass_time(self) -> None:
        pass


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(params=["fake", pytest.param("real", marks=needs_gpu)])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    made: Cuda = Fake() if request.param == "fake" else Real()
    yield made
    if request.param == "real":
        torch.cuda.synchronize()


def reached(cuda: Cuda, event: Any) -> bool:
    def ask() -> bool:
        cuda.pass_time()
        return bool(event.query())

    return until(ask)


def in_thread(step: Any) -> Exception | None:
    """Run a step in a thread of its own; what it raised."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            step()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT_SECONDS)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_an_event_is_reached_when_the_work_before_it_has_ended(cuda: Cuda) -> None:
    """Not before, and nobody has to wait for it."""
    cuda.work()
    event = cuda.recorded()
    assert not event.query()
    assert reached(cuda, event)


def test_events_of_a_stream_are_reached_in_order(cuda: Cuda) -> None:
    """So the oldest is asked first, and the end implies the start."""
    cuda.work()
    first = cuda.recorded()
    cuda.work()
    second = cuda.recorded()
    assert reached(cuda, second)
    assert first.query()
    assert first.elapsed_time(second) > 0.0


def test_the_time_between_events_is_refused_before_both_are_reached(cuda: Cuda) -> None:
    """Instead of waiting for them."""
    first = cuda.recorded()
    cuda.work()
    second = cuda.recorded()
    with pytest.raises(RuntimeError):
        first.elapsed_time(second)
    assert reached(cuda, second)


def test_an_event_can_be_recorded_again(cuda: Cuda) -> None:
    """It then stands for the work before the new place: events come from a pool."""
    event = cuda.recorded()
    assert reached(cuda, event)
    cuda.work()
    event.record(cuda.api.current_stream(cuda.device))
    assert not event.query()
    assert reached(cuda, event)


def test_an_event_can_be_asked_by_another_thread(cuda: Cuda) -> None:
    """The sampler thread never enqueued anything."""
    cuda.work()
    event = cuda.recorded()
    assert in_thread(lambda: reached(cuda, event)) is None
    assert event.query()


class Capture:
    """A capture on a stream of its own, as `torch.cuda.graph` does it."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.graph = cuda.api.CUDAGraph()
        self._context: Any = None

    def begin(self) -> None:
        """Begin it in the calling thread, with some work in it."""
        if isinstance(self._cuda, Real):
            self._context = torch.cuda.stream(torch.cuda.Stream())
            self._context.__enter__()
        self.graph.capture_begin()
        self._cuda.work()

    def end(self) -> None:
        """End it."""
        try:
            self.graph.capture_end()
        finally:
            if self._context is not None:
                self._context.__exit__(None, None, None)


def test_a_thread_knows_that_its_own_stream_is_captured(cuda: Cuda) -> None:
    """And only then."""
    capture = Capture(cuda)
    assert not cuda.api.is_current_stream_capturing()
    capture.begin()
    assert cuda.api.is_current_stream_capturing()
    capture.end()
    assert not cuda.api.is_current_stream_capturing()


def test_a_query_from_another_thread_breaks_a_capture(cuda: Cuda) -> None:
    """This is why the probe counts captures."""
    event = cuda.recorded()
    assert reached(cuda, event)
    capture = Capture(cuda)
    capture.begin()
    assert isinstance(in_thread(event.query), RuntimeError)
    with pytest.raises(RuntimeError):
        capture.end()


@pytest.fixture
def times(cuda: Cuda) -> Iterator[DeviceTimes]:
    made = DeviceTimes(Part("torch_cuda"))
    made.install(SimpleNamespace(cuda=cuda.api))
    yield made
    assert made.part.errors == 0, made.part.last_error
    made.uninstall()


def forward(cuda: Cuda, times: DeviceTimes, number: int = 1) -> bool:
    """A forward that is looked at; whether it is timed."""
    timing = times.begin(cuda.device)
    cuda.work()
    if timing is None or not times.end(timing):
        return False
    times.submit(Pending(timing, number, 2, 3, 0, 4))
    return True


def polled(cuda: Cuda, times: DeviceTimes, count: int) -> list[DeviceEvent]:
    found: list[DeviceEvent] = []

    def poll() -> bool:
        cuda.pass_time()
        found.extend(times.poll(0))
        return len(found) >= count

    until(poll)
    return found


def test_forwards_are_timed_in_their_order(cuda: Cuda, times: DeviceTimes) -> None:
    """Each once, with what is known of it."""
    assert forward(cuda, times, 1)
    assert forward(cuda, times, 2)
    found = polled(cuda, times, 2)
    assert [event.model_id for event in found] == [1, 2]
    assert all(event[1:5] == (2, 3, 0, 4) and event.device_ns > 0 for event in found)
    assert polled(cuda, times, 0) == []


def test_a_capture_is_whole_beside_the_probe(cuda: Cuda, times: DeviceTimes) -> None:
    """Nothing is recorded or asked while it runs; the time comes afterwards."""
    assert forward(cuda, times)
    capture = Capture(cuda)
    capture.begin()
    assert times.begin(cuda.device) is None
    assert in_thread(lambda: [times.poll(0) for _ in range(100)]) is None
    capture.end()
    assert len(polled(cuda, times, 1)) == 1


@needs_gpu
def test_device_times_are_those_of_the_profiler() -> None:
    """Within 5 %, with the same kernels and no call that waits."""
    device = torch.device("cuda", torch.cuda.current_device())
    model = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(16))).to(device)
    inputs = torch.zeros(2048, 2048, device=device)
    times = DeviceTimes(Part("torch_cuda"))
    times.install(torch)

    def profiled(*, timed: bool) -> tuple[list[str], int, float, Any]:
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.inference_mode(), torch.profiler.profile(activities=activities) as profile:
            timing = times.begin(device) if timed else None
            model(inputs)
            assert timing is None or times.end(timing)
            torch.cuda.synchronize()
        events = profile.events()
        kernels = sorted(
            (e for e in events if e.device_type == torch.autograd.DeviceType.CUDA),
            key=lambda event: event.time_range.start,
        )
        waits = sum("Synchronize" in event.name for event in events)
        span_us = kernels[-1].time_range.end - kernels[0].time_range.start
        return [event.name for event in kernels], waits, span_us, timing

    try:
        for _ in range(3):
            profiled(timed=False)
        names, waits, _, _ = profiled(timed=False)
        timed_names, timed_waits, span_us, timing = profiled(timed=True)
        times.submit(Pending(timing, 1, 2, 3, 0, 4))
        (event,) = times.poll(0)
    finally:
        times.uninstall()
    assert timed_names == names
    assert timed_waits == waits
    assert event.device_ns == pytest.approx(span_us * 1e3, rel=0.05)
