"""The detector over time: onset, recovery, silence, and records as bad as they come."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from pinchpoint.detect.labels import LABELS, STATES
from pinchpoint.detect.verdict import Verdict
from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import LayerEvent, RequestDetail, RequestEvent, StackEvent
from pinchpoint.schema.observations import Observation, RecordsLost, SourceClosed, Tick
from pinchpoint.schema.samples import (
    SAMPLE_TYPES,
    BusyThreadSample,
    CgroupCpuSample,
    MethodSample,
    ProcessSample,
    PythonSample,
    ServerSample,
    ThreadsSample,
)
from pinchpoint.schema.wire import sample_fields
from pinchpoint.snapshot import AgentFacts
from tests.support.observations import (
    HEALTHY,
    SECOND_NS,
    Load,
    Scene,
    Service,
    known,
    labels,
    watch,
)
from tests.unit.detect.faults import DOWNSTREAM, FAULTS, GIL, HOT, PREPROCESS, SATURATED

ONSET_SECONDS = 12
"""A label appears within the window's length and the two looks that it needs."""
RECOVERY_SECONDS = 16
"""It is gone within the window, the three looks, and the queue's own recovery."""

ANSWERS = {label.type for label in LABELS} | set(STATES)


def primaries(verdicts: Iterable[Verdict]) -> list[str]:
    return [verdict.primary for verdict in verdicts]


def check(verdicts: Iterable[Verdict]) -> None:
    """Every verdict names exactly one answer, and says why."""
    for verdict in verdicts:
        assert verdict.primary in ANSWERS
        assert verdict.reason
        assert (verdict.state == "bottleneck") == bool(verdict.active)
        if verdict.active:
            assert verdict.primary == labels(verdict)[0]
            assert len(set(labels(verdict))) == len(verdict.active)
        else:
            assert verdict.primary == verdict.state


def test_a_healthy_service_is_healthy_and_teaches_a_reference() -> None:
    """From the second tick on nothing else is said."""
    verdicts = Scene().run(HEALTHY, 20)
    check(verdicts)
    assert set(primaries(verdicts[2:])) == {"healthy"}
    assert verdicts[5].reference is None
    reference = verdicts[-1].reference
    assert reference is not None
    assert reference.forward_cpu == pytest.approx(0.006, rel=0.1)
    assert reference.requests == pytest.approx(40, rel=0.3)


@pytest.mark.parametrize("label", FAULTS)
def test_a_fault_gives_its_label_and_its_removal_takes_it_away(label: str) -> None:
    """Within a bounded number of ticks each, and it stays in between."""
    learned, fault = FAULTS[label]
    scene = known(learned)
    onset = scene.run(fault, ONSET_SECONDS)
    check(onset)
    assert onset[-1].primary == label
    steady = scene.run(fault, 10)
    assert set(primaries(steady)) == {label}
    recovery = scene.run(learned, RECOVERY_SECONDS)
    check(recovery)
    assert recovery[-1].primary == "healthy"
    assert set(primaries(scene.run(learned, 10))) == {"healthy"}


@pytest.mark.parametrize("label", ["cpu_quota_throttling", "gil_contention"])
def test_labels_of_contention_need_no_reference(label: str) -> None:
    """At a cold start the counters alone are enough."""
    _, fault = FAULTS[label]
    assert Scene().run(fault, ONSET_SECONDS)[-1].primary == label


def test_a_fault_does_not_become_the_usual() -> None:
    """After minutes of a slow dependency it is still told, and the reference is the old one."""
    scene = known()
    before = scene.run(HEALTHY, 1)[-1].reference
    verdict = scene.run(DOWNSTREAM, 120)[-1]
    assert verdict.primary == "downstream_wait"
    assert before is not None
    assert verdict.reference is not None
    assert verdict.reference.latency == pytest.approx(before.latency, rel=0.05)


def test_a_restart_of_the_server_keeps_the_reference() -> None:
    """The agent sees the service, not one incarnation of it."""
    scene = known()
    watch(scene.pipeline, scene.service.close())
    second = Service(source=2, seed=2)
    second.now_ns = scene.service.now_ns
    watch(scene.pipeline, second.open())
    verdicts = watch(scene.pipeline, second.run(HEALTHY, 15))
    check(verdicts)
    assert verdicts[-1].reference is not None
    assert verdicts[-1].primary == "healthy"


# Silence


def test_nothing_observed_yet_is_idle() -> None:
    """With a reason, before the first tick and after it."""
    scene = Scene()
    check([Pipeline().snapshot(AgentFacts()).verdict])
    verdicts = watch(scene.pipeline, [Observation(0, Tick(5 * SECOND_NS, 5))])
    check(verdicts)
    assert verdicts[0].primary == "idle"


def test_few_requests_are_idle_and_not_healthy() -> None:
    """No claim is made of three requests."""
    verdict = Scene().run(HEALTHY.but(rate=0.1), 20)[-1]
    assert verdict.primary == "idle"
    assert "requests" in verdict.reason


def test_a_service_that_loses_its_traffic_becomes_idle() -> None:
    """Not unknown, and without an error."""
    scene = known()
    verdicts = scene.run(HEALTHY.but(rate=0.001), 15)
    check(verdicts)
    assert verdicts[-1].primary == "idle"


def test_a_hung_server_with_everything_in_flight_is_not_idle() -> None:
    """It completes nothing, and what it holds is told with its age."""
    scene = known()
    verdicts = scene.run(HEALTHY.but(stuck=True), 15)
    check(verdicts)
    last = verdicts[-1]
    assert last.primary == "unknown"
    assert "in flight" in last.reason
    assert last.traffic.in_flight is not None
    assert last.traffic.in_flight > 100
    assert last.traffic.oldest_request_age_seconds == pytest.approx(15, abs=1)


# Slow without a cause


def test_unknown_carries_a_reason_with_the_largest_component() -> None:
    """Slow, and no signal says why: the decomposition is what an operator gets."""
    verdict = known().run(HEALTHY.stage("preprocess", blocked=20), ONSET_SECONDS)[-1]
    assert verdict.primary == "unknown"
    assert "unattributed" in verdict.reason
    assert "times its usual" in verdict.reason


def test_without_sampled_requests_nothing_is_claimed() -> None:
    """Counters alone cannot take latency apart."""
    verdict = Scene().run(GIL.but(without=frozenset({RequestDetail})), 12)[-1]
    assert verdict.primary == "unknown"
    assert "sampled" in verdict.reason


SIGNALS = (
    BusyThreadSample,
    CgroupCpuSample,
    LayerEvent,
    MethodSample,
    ProcessSample,
    PythonSample,
    RequestDetail,
    RequestEvent,
    ServerSample,
    StackEvent,
    ThreadsSample,
)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("label", FAULTS)
def test_a_missing_signal_gives_fewer_labels_and_never_an_error(label: str, signal: type) -> None:
    """Whatever the probe cannot see where it runs."""
    learned, fault = FAULTS[label]
    scene = known(learned)
    verdicts = scene.run(fault.but(without=frozenset({signal})), 8)
    check(verdicts)
    named = set(labels(verdicts[-1]))
    allowed = {label, "insufficient_parallelism", "queue_saturation"}
    if signal is CgroupCpuSample:  # without the quota its victims look like themselves
        allowed |= {"gil_contention"}
    assert named <= allowed


def test_no_process_attached_is_not_called_idle() -> None:
    """The probe may have failed to start under full traffic."""
    verdicts = watch(Pipeline(), [Observation(0, Tick(5 * SECOND_NS, 5))])
    check(verdicts)
    assert verdicts[0].primary == "unknown"
    assert "no serving process" in verdicts[0].reason


def test_all_signals_missing_is_idle() -> None:
    """A ring that only opens says nothing."""
    verdict = Scene().run(HEALTHY.but(without=frozenset(SIGNALS)), 5)[-1]
    assert verdict.primary == "idle"


# Records as bad as they come


def disturbed(load: Load, seconds: int, seed: int) -> list[Observation]:
    """A stream in which records are lost, doubled and out of order, ticks among them."""
    chance = random.Random(seed)
    observations = [o for o in Service(seed=seed).run(load, seconds) if chance.random() > 0.2]
    for _ in range(len(observations) // 10):
        observations.append(chance.choice(observations))
    for _ in range(len(observations) // 5):
        i, j = chance.randrange(len(observations)), chance.randrange(len(observations))
        j = min(len(observations) - 1, i + j % 50)
        observations[i], observations[j] = observations[j], observations[i]
    return observations


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("load", [HEALTHY, GIL, DOWNSTREAM, SATURATED])
def test_lost_doubled_and_disordered_records_give_one_answer_all_the_same(
    load: Load, seed: int
) -> None:
    """No exception, and exactly one primary in every verdict."""
    pipeline = Pipeline()
    watch(pipeline, Service(seed=seed).open())
    verdicts = watch(pipeline, disturbed(load, 20, seed))
    check(verdicts)
    assert verdicts


def test_a_gap_in_the_records_is_not_calm() -> None:
    """After a minute without a tick the old window is gone, with nothing learned of it."""
    scene = known()
    scene.service.now_ns += 60 * SECOND_NS
    verdicts = watch(scene.pipeline, [scene.service.tick()])
    check(verdicts)
    assert verdicts[0].traffic.requests == 0
    scene.pipeline.feed(Observation(1, RecordsLost(scene.service.now_ns, "overrun", 5_000)))
    assert scene.run(HEALTHY, 12)[-1].primary == "healthy"


@pytest.mark.parametrize("step_seconds", [-3600, -5, -1, 1, 5, 3600])
def test_a_step_of_the_serving_process_clock_breaks_nothing(step_seconds: int) -> None:
    """Its records then come from the past or from the future."""
    scene = known()
    for observation in scene.service.run(HEALTHY, 30):
        record = observation.record
        if isinstance(record, RequestEvent | RequestDetail):
            moved = record.arrival_ns + step_seconds * SECOND_NS
            record = record._replace(arrival_ns=moved)
        check(watch(scene.pipeline, [Observation(observation.source, record)]))


@pytest.mark.parametrize("step_seconds", [-100, 100])
def test_a_step_of_the_agents_clock_breaks_nothing(step_seconds: int) -> None:
    """Ticks that go back are no time that passes."""
    scene = known()
    now_ns = scene.service.now_ns + step_seconds * SECOND_NS
    ticks = [Observation(0, Tick(now_ns + i * SECOND_NS, now_ns)) for i in range(5)]
    check(watch(scene.pipeline, ticks))
    scene.service.now_ns = max(scene.service.now_ns, now_ns) + 10 * SECOND_NS
    check(scene.run(HEALTHY, 5))


def test_a_source_that_closes_within_the_window_leaves_one_answer() -> None:
    """Its requests still count, what it had in flight does not."""
    scene = known()
    scene.run(HEALTHY.but(stuck=True), 3)
    watch(scene.pipeline, scene.service.close())
    scene.service.now_ns += SECOND_NS
    verdicts = watch(scene.pipeline, [scene.service.tick()])
    check(verdicts)
    assert verdicts[0].traffic.in_flight == 0
    scene.service.now_ns += 11 * SECOND_NS
    assert watch(scene.pipeline, [scene.service.tick()])[0].primary == "unknown"


def test_records_of_a_source_that_was_never_opened_are_taken() -> None:
    """Recordings may begin anywhere."""
    pipeline = Pipeline()
    verdicts = watch(pipeline, Service(source=9).run(HEALTHY, 8))
    check(verdicts)
    assert verdicts[-1].primary == "healthy"


def test_a_close_without_an_open_is_nothing() -> None:
    """Nor is a second one."""
    scene = known()
    for source in (1, 1, 77):
        scene.pipeline.feed(Observation(source, SourceClosed(scene.service.now_ns)))
    check(watch(scene.pipeline, [scene.service.tick()]))


def test_numbers_at_the_limits_of_the_format_break_nothing() -> None:
    """Hostile records have every value that their bytes can hold."""
    scene = known()
    most = 2**64 - 1
    for observation in list(scene.service.second(HEALTHY)):
        record = observation.record
        if isinstance(record, RequestEvent):
            scene.pipeline.feed(
                Observation(1, record._replace(arrival_ns=most, handler_ns=most, queue_ns=most))
            )
        elif isinstance(record, RequestDetail):
            stages = tuple(stage._replace(wall_ns=most) for stage in record.stages)
            scene.pipeline.feed(
                Observation(1, record._replace(latency_ns=0, stages=stages, weight=1e6))
            )
    for sample_type in SAMPLE_TYPES:
        for value in (-1.7e308, 1.7e308, 0.0):
            values = dict.fromkeys(sample_fields(sample_type), value)
            sample = replace(sample_type(scene.service.now_ns, 7), **values)  # type: ignore[arg-type]
            scene.pipeline.feed(Observation(1, sample))
    check(scene.run(HEALTHY, 12))


# Determinism


def test_the_same_observations_give_identical_verdicts() -> None:
    """In one run or another, in this process or the next."""
    assert known().run(HOT, 8) == known().run(HOT, 8)


def test_batches_of_a_second_may_be_fed_in_any_interleaving_of_their_sources() -> None:
    """What one poll reads before the other makes no difference to what is seen."""
    one, two = Service(source=1, seed=1), Service(source=2, seed=2)
    alternating, blocks = Pipeline(), Pipeline()
    for pipeline in (alternating, blocks):
        watch(pipeline, Service(source=1).open())
        watch(pipeline, Service(source=2).open())
    for _ in range(15):
        first, second = list(one.second(GIL)), list(two.second(GIL))
        tick = one.tick()
        watch(blocks, [*first, *second])
        mixed: list[Observation] = []
        left, right = first[::-1], second[::-1]
        while left or right:
            side = left if left and (not right or len(mixed) % 3) else right
            mixed.append(side.pop())
        watch(alternating, mixed)
        seen, expected = alternating.feed(tick), blocks.feed(tick)
        assert seen is not None
        assert expected is not None
        assert (seen.primary, labels(seen)) == (expected.primary, labels(expected))
        assert seen.traffic.requests == expected.traffic.requests
        assert seen.decomposition.components == pytest.approx(expected.decomposition.components)


def test_ticks_between_two_looks_change_nothing() -> None:
    """An agent that polls ten times a second says the same as one that polls once."""
    slow, fast = known(), known()
    observations = list(slow.service.run(GIL, 8))
    expected = watch(slow.pipeline, observations)
    verdicts = []
    last_ns = fast.service.now_ns
    for number, observation in enumerate(observations):
        verdicts += watch(fast.pipeline, [observation])
        if isinstance(observation.record, Tick):
            last_ns = observation.record.time_ns
        elif number % 7 == 0:
            between = Tick(last_ns + SECOND_NS // 2, 0)
            verdicts += watch(fast.pipeline, [Observation(0, between)])
    assert verdicts == expected


@pytest.mark.parametrize("load", [PREPROCESS, HOT])
def test_requests_that_claim_no_latency_divide_by_nothing(load: Load) -> None:
    """Their stages say otherwise; both come from the ring as they are."""
    scene = Scene()
    for observation in scene.service.run(load.but(rate=60.0, workers=1), ONSET_SECONDS):
        record = observation.record
        if isinstance(record, RequestDetail):
            record = record._replace(latency_ns=0)
        check(watch(scene.pipeline, [Observation(observation.source, record)]))
