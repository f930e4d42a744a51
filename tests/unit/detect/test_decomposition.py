from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.detect.decomposition import Decomposition, decompose
from pinchpoint.detect.features import Features, Traffic, extract
from pinchpoint.schema.events import StageTime
from pinchpoint.schema.samples import ProcessSample, PythonSample, ThreadsSample
from pinchpoint.schema.terms import COMPONENTS, STAGES, WAIT_CATEGORIES
from tests.support.observations import SECOND_NS, request
from tests.unit.detect.windows import (
    BEGIN_NS,
    NOW_NS,
    beats,
    features_of,
    look,
    milliseconds,
    window,
)

LATE = beats(0.9)


def of(decomposition: Decomposition) -> dict[str, float]:
    """The components that are not zero, in milliseconds."""
    shares = decomposition.components.items()
    return {name: round(1e3 * seconds, 6) for name, seconds in shares if seconds > 1e-12}


def test_thread_clocks_give_cpu_and_run_queue_exactly() -> None:
    """What is known needs no evidence; what is blocked without any is unattributed."""
    features = features_of({"queue": StageTime(5_000_000, 0, 0), "forward": milliseconds(6, 2, 1)})
    assert of(decompose(features)) == {"queue": 5, "cpu": 6, "runqueue": 2, "unattributed": 1}


def test_time_outside_all_stages_is_unattributed() -> None:
    """Latency that no stage saw is said to be unknown."""
    made = window()
    _, detail = request(BEGIN_NS, {"forward": milliseconds(6)})
    made.add(1, detail._replace(latency_ns=10_000_000))
    made.advance(NOW_NS)
    assert of(decompose(extract(made))) == {"cpu": 6, "unattributed": 4}


@pytest.mark.parametrize("late", [(), LATE])
def test_waiting_for_a_batch_is_the_batchers(late: tuple[PythonSample, ...]) -> None:
    """Whether or not the interpreter lock is contended: the batcher decides when to begin."""
    features = features_of({"batch_wait": milliseconds(blocked=4)}, samples=late, gc_ms=1)
    assert of(decompose(features)) == {"gc": 1, "batch": 3}


def test_waits_around_the_handler_are_the_cores_and_the_clients() -> None:
    """Blocked in receive is the gRPC core's, blocked after serialising the client's."""
    features = features_of(
        {"receive": milliseconds(blocked=3), "send": milliseconds(blocked=7, cpu=1)}
    )
    assert of(decompose(features)) == {"core_wait": 3, "cpu": 1, "send": 7}


@pytest.mark.parametrize(
    ("category", "component"),
    [
        ("client", "downstream"),
        ("socket", "downstream"),
        ("sleep", "downstream"),
        ("lock", "lock"),
        ("disk", "disk"),
    ],
)
def test_looks_at_waiting_threads_say_what_a_wait_is_for(category: str, component: str) -> None:
    """With the lock free, the places where threads were seen to wait share all of it."""
    features = features_of(
        {"preprocess": milliseconds(2, 0, 8)},
        looks=[("preprocess", category)] * 6 + [("preprocess", "running")] * 4,
    )
    assert of(decompose(features)) == {"cpu": 2, component: 8}


def test_too_few_looks_say_nothing() -> None:
    """Four looks are no sample."""
    features = features_of(
        {"preprocess": milliseconds(2, 0, 8)}, looks=[("preprocess", "client")] * 4
    )
    assert of(decompose(features)) == {"cpu": 2, "unattributed": 8}


def test_a_handler_without_a_forward_was_seen_preprocessing() -> None:
    """A running request cannot know that no forward will come."""
    features = features_of({"handler": milliseconds(2, 0, 8)}, looks=[("preprocess", "client")] * 6)
    assert of(decompose(features)) == {"cpu": 2, "downstream": 8}


def test_late_heartbeats_give_blocked_time_to_the_interpreter_lock() -> None:
    """Its twin with heartbeats in time is unattributed."""
    stages = {"preprocess": milliseconds(2, 0, 8)}
    assert of(decompose(features_of(stages, samples=LATE))) == {"cpu": 2, "gil": 8}
    in_time = features_of(stages, samples=beats(0.01))
    assert of(decompose(in_time)) == {"cpu": 2, "unattributed": 8}


def test_the_lock_takes_what_looks_do_not_explain() -> None:
    """Half of the looks in a client library are half of the stage's time, not all of it."""
    features = features_of(
        {"preprocess": milliseconds(2, 0, 8)},
        looks=[("preprocess", "client")] * 5 + [("preprocess", "python")] * 5,
        samples=LATE,
    )
    assert of(decompose(features)) == {"cpu": 2, "downstream": 5, "gil": 3}


def test_the_collectors_pauses_come_first() -> None:
    """They are measured, so that nothing else may claim their time, and only once."""
    features = features_of(
        {"preprocess": milliseconds(2, 0, 8), "forward": milliseconds(1, 0, 4)},
        looks=[("preprocess", "client")] * 6,
        samples=LATE,
        gc_ms=9,
    )
    assert of(decompose(features)) == {"cpu": 3, "gc": 9, "gil": 3}


def test_the_collector_is_given_no_more_than_was_blocked() -> None:
    """A pause in the request's own thread is its CPU."""
    features = features_of({"preprocess": milliseconds(9, 0, 1)}, gc_ms=9)
    assert of(decompose(features)) == {"cpu": 9, "gc": 1}


def test_blocked_under_torch_is_the_cpu_of_its_thread_pool() -> None:
    """Without a device the caller of a parallel operator waits for threads that compute."""
    features = features_of({"forward": milliseconds(4, 0, 6)}, looks=[("forward", "torch")] * 6)
    assert of(decompose(features)) == {"cpu": 10}


def stalls(throttled_cores: float, runqueue_cores: float) -> list[ThreadsSample | ProcessSample]:
    seconds = (NOW_NS - BEGIN_NS) / SECOND_NS
    return [
        ThreadsSample(BEGIN_NS, 0, runqueue_ns=0.0),
        ThreadsSample(NOW_NS, 0, runqueue_ns=runqueue_cores * seconds * SECOND_NS),
        ProcessSample(BEGIN_NS, 0, cpu_user_ns=0.0, cpu_system_ns=0.0),
        ProcessSample(NOW_NS, 0, cpu_user_ns=0.5 * seconds * SECOND_NS, cpu_system_ns=0.0),
    ]


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0, 50))
def test_throttling_is_never_more_than_the_wait_for_a_cpu(
    throttled: float, waiting: float, cores: float
) -> None:
    """Whatever the quota's counters, which sum over CPUs, say."""
    stages = features_of({"forward": milliseconds(5, 5, 0)}).stages
    features = Features(
        Traffic(),
        weight=1.0,
        latency_seconds=0.010,
        stages=stages,
        throttled_share=throttled,
        runqueue_share=waiting,
        cpu_cores=cores,
    )
    result = decompose(features)
    assert 0.0 <= result.throttled_ratio <= 1.0
    parts = result.components["throttled"] + result.components["runqueue"]
    assert parts == pytest.approx(0.005)


def test_without_a_quota_no_wait_is_throttling() -> None:
    """A neighbour's wait is a run-queue wait."""
    features = features_of({"forward": milliseconds(5, 5, 0)}, samples=stalls(0.0, 1.0))
    assert of(decompose(features)) == {"cpu": 5, "runqueue": 5}


TIMES = st.integers(0, 5_000_000_000)
STAGE_TIMES = st.builds(
    lambda cpu, runqueue, blocked: StageTime(cpu + runqueue + blocked, cpu, runqueue),
    TIMES,
    TIMES,
    TIMES,
)
REQUESTS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(STAGES), STAGE_TIMES),
        TIMES,  # outside all stages
        TIMES,  # collector
        st.floats(1, 1000),
    ),
    min_size=1,
    max_size=8,
)
LOOKS = st.lists(st.tuples(st.sampled_from(STAGES), st.sampled_from(WAIT_CATEGORIES)), max_size=60)


@given(REQUESTS, LOOKS, st.floats(0, 1), st.floats(0, 4), st.floats(0, 4))
def test_components_are_disjoint_and_sum_to_the_latency(
    requests: list[tuple[dict[str, StageTime], int, int, float]],
    looks: list[tuple[str, str]],
    late_ratio: float,
    throttled: float,
    runqueue: float,
) -> None:
    """Whatever the requests, the looks and the counters, no second is lost or told twice."""
    made = window()
    for stages, outside_ns, gc_ns, weight in requests:
        queue = {"queue": StageTime(stages["queue"].wall_ns if "queue" in stages else 0, 0, 0)}
        _, detail = request(BEGIN_NS, {**stages, **queue}, gc_ns=gc_ns, weight=weight)
        latency_ns = detail.latency_ns + outside_ns
        begin_ns = NOW_NS - latency_ns
        made.add(1, detail._replace(latency_ns=latency_ns, arrival_ns=begin_ns))
    for stage, category in looks:
        made.add(1, look(stage, category))
    for sample in (*beats(late_ratio), *stalls(throttled, runqueue)):
        made.add(1, sample)
    made.advance(NOW_NS)
    features = extract(made)
    decomposition = decompose(features)
    amounts = decomposition.components
    assert tuple(amounts) == COMPONENTS
    assert all(seconds >= -1e-12 for seconds in amounts.values())
    assert sum(amounts.values()) == pytest.approx(features.latency_seconds, abs=1e-12)
    assert sum(decomposition.share(name) for name in COMPONENTS) == pytest.approx(
        1.0 if features.latency_seconds else 0.0
    )


def test_nothing_sampled_decomposes_into_nothing() -> None:
    """An empty window has no shares, and no division by zero."""
    empty = decompose(Features(Traffic()))
    assert empty.components == {}
    assert empty.share("cpu") == 0.0
    assert empty.unattributed_ratio == 0.0
