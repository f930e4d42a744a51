"""What the first detector got wrong on real servers (ADR 0008), as streams of records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pinchpoint.detect.thresholds import SILENCE_NS
from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import RequestDetail, RequestEvent, StackEvent, StageTime
from pinchpoint.schema.observations import Name, NameKind, Observation, Record, Tick
from pinchpoint.schema.terms import CATEGORY_INDEX, GRPC_TYPES, STAGE_INDEX
from tests.support.observations import (
    HEALTHY,
    SECOND_NS,
    Scene,
    Service,
    gate,
    known,
    reason,
    request,
    watch,
)
from tests.unit.detect.faults import CALLS, DEAR, SATURATED

BUSY_PYTHON = HEALTHY.stage("preprocess", cpu=8, blocked=6).but(late_beats_ratio=0.45)
"""A service whose own requests hold the lock almost half the time: made of Python."""


def test_a_record_from_the_future_does_not_keep_the_old_ones() -> None:
    """One damaged arrival an hour ahead leaves the window ten seconds long."""
    scene = known()
    ahead = [
        replace_arrival(observation, 3600 * SECOND_NS)
        for observation in scene.service.second(HEALTHY)
    ]
    watch(scene.pipeline, [ahead[0]])
    last = scene.run(HEALTHY, 30)[-1]
    assert last.primary == "healthy"
    assert last.traffic.requests == pytest.approx(10 * HEALTHY.rate, rel=0.3)


def replace_arrival(observation: Observation, ahead_ns: int) -> Observation:
    record = observation.record
    if not isinstance(record, RequestEvent):
        return observation
    later = record._replace(arrival_ns=record.arrival_ns + ahead_ns)
    return Observation(observation.source, later)


def test_a_process_that_falls_silent_as_a_whole_is_not_idle() -> None:
    """Its samplers hang with it: no requests and no samples, while its ring is still open."""
    scene = known()
    now_ns = scene.service.now_ns
    ticks = [
        Observation(0, Tick(now_ns + second * SECOND_NS, 0))
        for second in range(1, 3 + SILENCE_NS // SECOND_NS + 10)
    ]
    last = watch(scene.pipeline, ticks)[-1]
    assert last.primary == "unknown"
    assert "said nothing" in last.reason


def test_a_process_that_has_ended_is_not_taken_for_one_that_hangs() -> None:
    """Its ring is closed, so its silence says nothing."""
    scene = known()
    watch(scene.pipeline, scene.service.close())
    now_ns = scene.service.now_ns
    ticks = [Observation(0, Tick(now_ns + s * SECOND_NS, 0)) for s in range(1, 20)]
    assert "no serving process" in watch(scene.pipeline, ticks)[-1].reason


def test_two_processes_with_clocks_of_their_own_share_one_replay() -> None:
    """Arrivals are compared on the agent's clock, whatever the clocks of the sources."""

    def utilization(offset_ns: int) -> float:
        pipeline = Pipeline()
        first, second = Service(1, seed=1), Service(2, seed=2, offset_ns=offset_ns)
        second.now_ns -= offset_ns
        verdicts = watch(pipeline, [*first.open(), *second.open()])
        for _ in range(15):
            watch(pipeline, second.second(HEALTHY))
            verdicts = watch(pipeline, first.run(HEALTHY, 1))
        value = verdicts[-1].utilization_ratio
        assert value is not None
        return value

    assert utilization(-5_000 * SECOND_NS) == pytest.approx(utilization(0), rel=0.05)


def test_a_service_made_of_python_is_healthy_at_its_usual_load() -> None:
    """Its requests share the lock among themselves, as they always do."""
    last = known(BUSY_PYTHON).run(BUSY_PYTHON, 12)[-1]
    assert last.primary == "healthy"
    assert gate(last, "gil_contention") == "harm"


def test_a_service_made_of_python_is_named_when_it_gets_slower() -> None:
    """More of it at once: the lock is what they wait for."""
    scene = known(BUSY_PYTHON)
    worse = BUSY_PYTHON.stage("preprocess", blocked=30).but(late_beats_ratio=0.9)
    assert scene.run(worse, 12)[-1].primary == "gil_contention"


def test_late_answers_under_load_are_not_the_dependency_s() -> None:
    """Blocked time that grew no more than the waits for a CPU is not another service's."""
    usual = HEALTHY.stage("preprocess", blocked=13, runqueue=2).but(looks=CALLS)
    loaded = usual.stage("preprocess", blocked=20, runqueue=12)
    last = known(usual).run(loaded, 12)[-1]
    assert gate(last, "downstream_wait") in ("harm", "mechanism")


def test_workers_held_longer_than_usual_are_not_too_few() -> None:
    """The process stops for collections: the queue is theirs."""
    usual = HEALTHY.but(workers=1, rate=30.0)
    stopped = usual.stage("forward", blocked=20).but(gc_milliseconds=20.0, gc_share=0.5)
    last = known(usual).run(stopped, 12)[-1]
    assert gate(last, "insufficient_parallelism") == "exclusion"
    assert "hold their workers" in reason(last, "insufficient_parallelism")


def test_cpu_that_no_request_asked_for_is_not_overload() -> None:
    """Background threads fill the run queue at an unchanged rate."""
    crowded = replace(HEALTHY.stage("forward", runqueue=15), native_cores=1.2)
    last = known().run(crowded, 12)[-1]
    assert gate(last, "queue_saturation") == "exclusion"
    assert "for each request" in reason(last, "queue_saturation")


def test_a_load_step_is_not_taken_for_too_few_workers() -> None:
    """The last seconds show that the CPUs are busy before the window's mean does."""
    primaries = [verdict.primary for verdict in known(DEAR).run(SATURATED, 12)]
    assert "insufficient_parallelism" not in primaries[2:]
    assert primaries[-1] == "queue_saturation"


def test_components_never_exceed_the_latency() -> None:
    """Clocks of different grain: CPU and run-queue time above a stage's wall time."""
    scene = Scene()
    for observation in scene.service.run(HEALTHY, 12):
        record = observation.record
        if isinstance(record, RequestDetail):
            stages = tuple(s._replace(runqueue_ns=s.wall_ns) for s in record.stages)
            record = record._replace(stages=stages)
        verdict = scene.pipeline.feed(Observation(observation.source, record))
        if verdict is not None and verdict.decomposition.latency_seconds:
            total = sum(verdict.decomposition.components.values())
            assert total == pytest.approx(verdict.decomposition.latency_seconds)


def test_streams_are_no_slow_requests() -> None:
    """A stream that is open for a minute waits for its client, not for another service."""
    scene = known()
    stream = Name(900, NameKind.METHOD, GRPC_TYPES.index("bidi_stream"), "/pkg.Service/Talk")
    times = {"handler": StageTime(60 * SECOND_NS, SECOND_NS // 100, 0)}
    watch(scene.pipeline, [Observation(1, stream)])
    for _ in range(12):
        now_ns = scene.service.now_ns
        event, detail = request(
            now_ns - 60 * SECOND_NS,
            times,
            call_type=GRPC_TYPES.index("bidi_stream"),
            method_id=stream.name_id,
        )
        waits = StackEvent(
            CATEGORY_INDEX["socket"], STAGE_INDEX["preprocess"], 7, stream.name_id, 0, now_ns
        )
        records: list[Record] = [event, detail, *[waits] * 5]
        watch(scene.pipeline, [Observation(1, record) for record in records])
        (verdict,) = scene.run(HEALTHY, 1)
    assert verdict.primary == "healthy"
    assert verdict.decomposition.components["downstream"] == 0
