from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinchpoint.probe.call import SEND, Call
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.shared_forwards import SharedForward
from pinchpoint.probe.thread_state import current
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.events import (
    FLAG_BEHAVIOUR_CALLED,
    FLAG_SHARED_FORWARD,
    RequestDetail,
    RequestEvent,
)
from pinchpoint.schema.terms import STAGE_INDEX, STAGES
from tests.support.models import NoModels
from tests.support.rings import the_ring


@pytest.fixture
def recorder(ring_dir: Path) -> Iterator[Recorder]:
    recorder = Recorder(ring_dir, GcWatch(), NoModels())
    yield recorder
    recorder.close()


def finished(ring_dir: Path) -> tuple[RequestEvent, RequestDetail]:
    ring = the_ring(ring_dir)
    (request,), (detail,) = ring.requests(), ring.details
    return request, detail


def sampled(recorder: Recorder) -> Call:
    call = Call(recorder, 1, 0, 2)
    call.weight = 1
    return call


def seen_stages(detail: RequestDetail) -> set[str]:
    return {name for name, stage in zip(STAGES, detail.stages, strict=True) if stage.wall_ns}


def test_a_request_without_a_model_has_one_handler_stage(
    recorder: Recorder, ring_dir: Path
) -> None:
    """Nothing splits it, so nothing is guessed."""
    call = sampled(recorder)
    call.start(current())
    call.behaviour_begins()
    call.behaviour_ended()
    call.enter(SEND)
    call.finish(0)
    request, detail = finished(ring_dir)
    assert seen_stages(detail) == {"queue", "receive", "handler", "serialize", "send"}
    assert (request.preprocess_ns, request.forward_ns, request.postprocess_ns) == (0, 0, 0)
    assert request.flags == FLAG_BEHAVIOUR_CALLED


def test_forwards_split_the_handler_without_remainder(recorder: Recorder, ring_dir: Path) -> None:
    """Before the first, in them, and the rest."""
    call = sampled(recorder)
    call.start(current())
    call.behaviour_begins()
    for _ in range(2):
        call.forward_begins()
        call.forward_ended(7, 16, 100)
    call.behaviour_ended()
    call.finish(0)
    request, detail = finished(ring_dir)
    split = request.preprocess_ns + request.forward_ns + request.postprocess_ns
    assert split == request.handler_ns
    assert (request.model_id, request.batch_size, request.forwards) == (7, 16, 2)
    assert {"preprocess", "forward", "postprocess"} <= seen_stages(detail)
    assert "handler" not in seen_stages(detail)


def test_deserialising_is_taken_out_of_receiving(recorder: Recorder, ring_dir: Path) -> None:
    """It ran on another thread while this one waited; never more than was waited."""
    call = sampled(recorder)
    call.start(current())
    call.deserialize_ns = 10**15
    call.behaviour_begins()
    call.behaviour_ended()
    call.finish(0)
    _, detail = finished(ring_dir)
    assert "deserialize" in seen_stages(detail)
    assert "receive" not in seen_stages(detail)


def test_a_request_that_never_reached_its_handler_says_so(
    recorder: Recorder, ring_dir: Path
) -> None:
    """All of its worker's time was receiving."""
    call = sampled(recorder)
    call.start(current())
    call.finish(1)
    request, detail = finished(ring_dir)
    assert (request.flags, request.handler_ns, request.send_ns) == (0, 0, 0)
    assert request.receive_ns > 0
    assert seen_stages(detail) <= {"queue", "receive", "send"}


def test_a_call_that_is_not_drawn_writes_no_detail(recorder: Recorder, ring_dir: Path) -> None:
    """The event is written for every request, the thread's clocks are read for few."""
    call = Call(recorder, 1, 0, 2)
    call.start(current())
    call.behaviour_begins()
    call.behaviour_ended()
    call.enter(SEND)
    call.finish(0)
    ring = the_ring(ring_dir)
    assert len(ring.requests()) == 1
    assert ring.details == []


def own_ns() -> int:
    """What this thread has used of the CPU, and waited for one that was busy."""
    _, run_queue_ns, _ = Path("/proc/thread-self/schedstat").read_text().split()
    return time.thread_time_ns() + int(run_queue_ns)


def test_a_handler_that_waited_for_a_batch_is_split_around_its_forward(
    recorder: Recorder, ring_dir: Path
) -> None:
    """Another thread ran the model for many while this one stood still."""
    call = sampled(recorder)
    call.start(current())
    call.behaviour_begins()
    not_waiting_ns = -own_ns()
    wait_begin_ns = time.monotonic_ns()
    time.sleep(0.02)
    begin_ns = time.monotonic_ns()
    time.sleep(0.01)
    wall_ns = time.monotonic_ns() - begin_ns
    recorder.shared_forwards.add(SharedForward(7, 16, begin_ns, wall_ns))
    call.behaviour_ended()
    not_waiting_ns += own_ns()
    call.finish(0)
    request, detail = finished(ring_dir)
    assert request.flags & FLAG_SHARED_FORWARD
    assert (request.model_id, request.batch_size, request.forwards) == (7, 16, 1)
    assert request.forward_ns == wall_ns
    assert {"batch_wait", "forward"} <= seen_stages(detail)
    assert detail.stages[STAGE_INDEX["batch_wait"]].wall_ns == request.batch_wait_ns
    assert request.batch_wait_ns >= begin_ns - wait_begin_ns - not_waiting_ns
    split = (
        request.preprocess_ns + request.batch_wait_ns + request.forward_ns + request.postprocess_ns
    )
    assert split == request.handler_ns


def test_a_handler_that_worked_meanwhile_is_given_no_forward(
    recorder: Recorder, ring_dir: Path
) -> None:
    """A model that runs in the background was not what it waited for."""
    call = sampled(recorder)
    call.start(current())
    call.behaviour_begins()
    begin_ns = time.monotonic_ns()
    while time.thread_time_ns() and time.monotonic_ns() - begin_ns < 10_000_000:
        pass
    recorder.shared_forwards.add(SharedForward(7, 1, begin_ns, time.monotonic_ns() - begin_ns))
    call.behaviour_ended()
    call.finish(0)
    request, _ = finished(ring_dir)
    assert (request.flags & FLAG_SHARED_FORWARD, request.forwards) == (0, 0)


@pytest.mark.parametrize("handled", [True, False])
def test_a_forward_before_the_handler_leaves_a_sound_record(
    recorder: Recorder, ring_dir: Path, *, handled: bool
) -> None:
    """An interceptor ran a model, and perhaps refused the request."""
    call = Call(recorder, 1, 0, 2)
    call.start(current())
    call.forward_begins()
    call.forward_ended(7, 1, 1000)
    if handled:
        call.behaviour_begins()
        call.behaviour_ended()
    call.finish(0)
    (request,) = the_ring(ring_dir).requests()
    assert request.preprocess_ns == 0
    assert request.latency_ns < 10**10


@pytest.mark.parametrize("waits", [True, False])
def test_a_request_that_is_not_sampled_goes_by_the_last_that_was(
    recorder: Recorder, ring_dir: Path, *, waits: bool
) -> None:
    """It has no clock that could tell whether it waited for the forward beside it."""
    recorder.shared_forwards.waits[1] = waits
    call = Call(recorder, 1, 0, 2)
    call.start(current())
    call.behaviour_begins()
    recorder.shared_forwards.add(SharedForward(7, 1, time.monotonic_ns(), 0))
    call.behaviour_ended()
    call.finish(0)
    (request,) = the_ring(ring_dir).requests()
    assert request.forwards == waits


@pytest.mark.parametrize(("rate", "every"), [(0.0, 1), (25.0, 1), (75.0, 3), (1e4, 400)])
def test_the_sample_is_uniform_and_its_weights_stand_for_all(
    recorder: Recorder, rate: float, every: int
) -> None:
    """About 25 a second, whatever the traffic."""
    weights = []
    for _ in range(100_000 // (10 * every)):
        recorder.adapt(rate)
        weights += [recorder.draw() for _ in range(10 * every)]
    assert set(weights) <= {0, every}
    assert sum(weights) == pytest.approx(len(weights), rel=0.02)


def test_a_burst_after_a_quiet_second_is_not_sampled_whole(recorder: Recorder) -> None:
    """Its weights grow as it goes on, and still stand for all of it."""
    recorder.adapt(0.0)
    weights = [recorder.draw() for _ in range(50_000)]
    drawn = [weight for weight in weights if weight]
    assert len(drawn) < 1000
    assert drawn == sorted(drawn)
    assert sum(weights) == pytest.approx(50_000, rel=0.2)
