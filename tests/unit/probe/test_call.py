from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pinchpoint.probe import thread_state
from pinchpoint.probe.call import Call
from pinchpoint.probe.recorder import Recorder
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED, RequestDetail, RequestEvent
from pinchpoint.schema.terms import STAGES
from tests.support.rings import the_ring


@pytest.fixture
def recorder(ring_dir: Path) -> Iterator[Recorder]:
    recorder = Recorder(ring_dir, GcWatch())
    yield recorder
    recorder.close()
    thread_state.current().call = None


def finished(ring_dir: Path) -> tuple[RequestEvent, RequestDetail]:
    ring = the_ring(ring_dir)
    (request,), (detail,) = ring.requests(), ring.details
    return request, detail


def seen_stages(detail: RequestDetail) -> set[str]:
    return {name for name, stage in zip(STAGES, detail.stages, strict=True) if stage.wall_ns}


def test_a_request_without_a_model_has_one_handler_stage(
    recorder: Recorder, ring_dir: Path
) -> None:
    """Nothing splits it, so nothing is guessed."""
    call = Call(recorder, 1, 0, 2)
    call.start()
    call.behaviour_begins()
    call.behaviour_ended()
    call.serialized()
    call.finish(0)
    request, detail = finished(ring_dir)
    assert seen_stages(detail) == {"queue", "receive", "handler", "serialize", "send"}
    assert (request.preprocess_ns, request.forward_ns, request.postprocess_ns) == (0, 0, 0)
    assert request.flags == FLAG_BEHAVIOUR_CALLED


def test_forwards_split_the_handler_without_remainder(recorder: Recorder, ring_dir: Path) -> None:
    """Before the first, in them, and the rest."""
    call = Call(recorder, 1, 0, 2)
    call.start()
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
    call = Call(recorder, 1, 0, 2)
    call.start()
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
    call = Call(recorder, 1, 0, 2)
    call.start()
    call.finish(1)
    request, detail = finished(ring_dir)
    assert (request.flags, request.handler_ns, request.send_ns) == (0, 0, 0)
    assert request.receive_ns > 0
    assert seen_stages(detail) <= {"queue", "receive", "send"}


def test_a_call_is_its_threads_until_it_leaves(recorder: Recorder) -> None:
    """The torch hook finds the request of a forward there."""
    call = Call(recorder, 1, 0, 2)
    assert thread_state.current().call is None
    call.start()
    assert thread_state.current().call is call
    call.leave_thread()
    assert thread_state.current().call is None


def test_a_call_that_is_not_drawn_writes_no_detail(recorder: Recorder, ring_dir: Path) -> None:
    """The event is written for every request, the thread's clocks are read for few."""
    recorder.adapt(1e6)
    calls = [Call(recorder, 1, 0, 2) for _ in range(50)]
    plain = next(call for call in calls if not call.weight)
    plain.start()
    plain.behaviour_begins()
    plain.behaviour_ended()
    plain.serialized()
    plain.finish(0)
    ring = the_ring(ring_dir)
    assert len(ring.requests()) == 1
    assert ring.details == []


@pytest.mark.parametrize(("rate", "every"), [(0.0, 1.0), (25.0, 1.0), (62.5, 2.5), (1e4, 400.0)])
def test_the_sample_is_uniform_and_its_weights_stand_for_all(
    recorder: Recorder, rate: float, every: float
) -> None:
    """About a hundred a second, whatever the traffic."""
    recorder.adapt(rate)
    weights = [recorder.draw() for _ in range(100_000)]
    assert set(weights) <= {0.0, every}
    assert sum(weights) == pytest.approx(100_000, rel=0.02)
