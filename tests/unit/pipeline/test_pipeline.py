from __future__ import annotations

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import RequestDetail, StageTime
from pinchpoint.schema.observations import Observation, RecordsLost, SourceClosed
from pinchpoint.schema.terms import CALL_TYPES, COMPONENTS
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.observations import (
    HEALTHY,
    LEARNING_SECONDS,
    MILLISECOND_NS,
    SECOND_NS,
    Scene,
    Service,
    known,
    request,
    watch,
)

GIL = HEALTHY.stage("preprocess", blocked=20).but(late_beats_ratio=0.9, python_cores=1.0)


def shown(pipeline: Pipeline) -> Snapshot:
    return pipeline.snapshot(AgentFacts())


def test_components_of_request_time_sum_to_the_latency_of_the_weighted_requests() -> None:
    """No second of a sampled request is lost or counted twice, over changes of the load."""
    scene = Scene()
    total = 0.0
    for load in (HEALTHY, GIL, HEALTHY.but(workers=1, rate=90.0)):
        for observation in scene.service.run(load, 8):
            record = observation.record
            if isinstance(record, RequestDetail):
                record = record._replace(weight=3.0)
                total += 3.0 * record.latency_ns / 1e9
            scene.pipeline.feed(Observation(observation.source, record))
    seconds = shown(scene.pipeline).component_seconds
    assert tuple(seconds) == COMPONENTS
    assert sum(seconds.values()) == pytest.approx(total)
    assert all(value >= 0 for value in seconds.values())
    assert seconds["gil"] > 0
    assert seconds["queue"] > 0


@pytest.mark.parametrize(
    ("call_type", "split"), [("unary", True), ("http", True), ("bidi_stream", False)]
)
def test_only_requests_with_one_response_are_split(call_type: str, split: bool) -> None:
    """Most of a stream's time is its client's."""
    scene = known()
    before = sum(shown(scene.pipeline).component_seconds.values())
    times = {"handler": StageTime(50 * MILLISECOND_NS, 0, 0)}
    _, detail = request(scene.service.now_ns, times, call_type=CALL_TYPES.index(call_type))
    watch(scene.pipeline, [Observation(1, detail), scene.service.tick()])
    scene.run(HEALTHY.but(stuck=True), 1)
    added = sum(shown(scene.pipeline).component_seconds.values()) - before
    assert added == pytest.approx(0.05 if split else 0.0)


def test_components_are_exported_as_zeros_up_front() -> None:
    """A stacked picture has all its layers from the start."""
    assert shown(Pipeline()).component_seconds == dict.fromkeys(COMPONENTS, 0.0)


def test_time_of_requests_waits_for_a_verdict_to_be_split() -> None:
    """A request that ends just after a tick belongs to the next one."""
    scene = known()
    before = sum(shown(scene.pipeline).component_seconds.values())
    watch(scene.pipeline, scene.service.second(HEALTHY))
    assert sum(shown(scene.pipeline).component_seconds.values()) == before
    watch(scene.pipeline, [scene.service.tick()])
    assert sum(shown(scene.pipeline).component_seconds.values()) > before


def test_time_in_a_bottleneck_and_transitions_into_it_are_counted() -> None:
    """Zeros for all others; time counts from the tick after the label appeared."""
    scene = known()
    verdicts = scene.run(GIL, 12)
    active = [v.time_ns for v in verdicts if v.primary == "gil_contention"]
    snapshot = shown(scene.pipeline)
    assert snapshot.bottleneck_transitions["gil_contention"] == 1
    seconds = snapshot.bottleneck_seconds["gil_contention"]
    assert seconds == pytest.approx((active[-1] - active[0]) / SECOND_NS)
    assert snapshot.bottleneck_transitions["queue_saturation"] == 0
    assert snapshot.bottleneck_seconds["queue_saturation"] == 0.0


def test_losses_are_counted_by_reason() -> None:
    """What could not be read is never silent."""
    pipeline = Pipeline()
    assert shown(pipeline).lost == {"overrun": 0, "hole": 0, "invalid": 0}
    pipeline.feed(Observation(1, RecordsLost(0, "overrun", 12)))
    pipeline.feed(Observation(1, RecordsLost(0, "overrun", 3)))
    assert shown(pipeline).lost == {"overrun": 15, "hole": 0, "invalid": 0}


def test_a_snapshot_does_not_change_afterwards() -> None:
    """A scrape reads it while the loop goes on."""
    scene = known()
    snapshot = shown(scene.pipeline)
    before = repr(snapshot)
    scene.run(GIL, 5)
    watch(scene.pipeline, scene.service.close())
    assert repr(snapshot) == before


def counters(snapshot: Snapshot) -> dict[object, float]:
    """Every figure of a snapshot that must never go down."""
    values: dict[object, float] = dict(snapshot.counters.items())
    values.update({("component", k): v for k, v in snapshot.component_seconds.items()})
    values.update({("stage", k): v.sum for k, v in snapshot.stages.items()})
    values.update({("bottleneck", k): v for k, v in snapshot.bottleneck_seconds.items()})
    values.update(
        {("transitions", k): float(v) for k, v in snapshot.bottleneck_transitions.items()}
    )
    for m in snapshot.methods:
        values["started", m.method] = float(m.started)
        values["latency", m.method] = m.request.sum
        values.update({("handled", m.method, code): float(n) for code, n in m.handled.items()})
    return values


def test_counters_never_go_down_over_restarts() -> None:
    """Two workers that die and come back in turn, and what they had in flight with them."""
    pipeline = Pipeline()
    before: dict[object, float] = {}
    now_ns = 1_000 * SECOND_NS
    for source in range(1, 6):
        pair = [Service(source=source, seed=source), Service(source=source + 1, seed=source + 9)]
        for service in pair:
            service.now_ns = now_ns
            watch(pipeline, service.open())
        for _ in range(6):
            for service in pair:
                watch(pipeline, service.second(GIL))
                pipeline.feed(service.tick())
                after = counters(shown(pipeline))
                assert before.keys() <= after.keys()
                assert all(after[key] >= before[key] for key in before)
                before = after
        now_ns = pair[0].now_ns
        pipeline.feed(Observation(source, SourceClosed(now_ns)))


def test_gauges_of_a_server_that_has_gone_are_gone() -> None:
    """What is in flight, its workers, its memory."""
    scene = known()
    assert shown(scene.pipeline).gauges
    watch(scene.pipeline, scene.service.close())
    snapshot = shown(scene.pipeline)
    assert snapshot.gauges == {}
    assert [m.in_flight for m in snapshot.methods] == [0]


def test_every_record_is_counted_once() -> None:
    """Ticks and names are none."""
    pipeline = Pipeline()
    service = Service()
    watch(pipeline, service.open())
    seen = list(service.second(HEALTHY))
    watch(pipeline, [*seen, service.tick()])
    assert shown(pipeline).records == len(seen) + 1  # the opening


def test_learning_is_as_long_as_the_tests_believe() -> None:
    """`known` scenes have a reference."""
    verdict = shown(known().pipeline).verdict
    assert verdict.reference is not None
    assert verdict.time_ns == (1_000 + LEARNING_SECONDS) * SECOND_NS
