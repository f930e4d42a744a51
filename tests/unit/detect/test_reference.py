from __future__ import annotations

from dataclasses import replace

from pinchpoint.detect.reference import Figures, Reference, figures
from pinchpoint.detect.thresholds import (
    REFERENCE_LAG_NS,
    REFERENCE_PURGE_NS,
    REFERENCE_SECONDS_MAX,
    REFERENCE_SECONDS_MIN,
    REQUESTS_MIN,
)
from pinchpoint.detect.window import Sampled
from pinchpoint.schema.events import StageTime
from tests.support.observations import MILLISECOND_NS, SECOND_NS, request

USUAL = Figures(
    preprocess_cpu=1.0,
    forward_cpu=2.0,
    waiting=3.0,
    service=3.5,
    latency=4.0,
    process_cpu=2.5,
    requests=50.0,
)
LAG_SECONDS = REFERENCE_LAG_NS // SECOND_NS
PURGE_SECONDS = REFERENCE_PURGE_NS // SECOND_NS


def learned(seconds: int, of: Figures = USUAL) -> Reference:
    reference = Reference()
    for second in range(seconds):
        reference.learn(second * SECOND_NS, of)
    return reference


def sampled(stages: dict[str, StageTime], weight: float = 1.0) -> Sampled:
    _, detail = request(0, stages, weight=weight)
    return Sampled(0, detail)


def test_nothing_is_known_before_enough_healthy_seconds() -> None:
    """A reference of three seconds would be an accident."""
    enough = LAG_SECONDS + REFERENCE_SECONDS_MIN
    assert learned(enough - 1).figures() is None
    assert learned(enough).figures() == USUAL


def test_a_second_counts_only_once_it_is_old() -> None:
    """The first seconds of a fault look healthy and must not become the usual."""
    reference = learned(LAG_SECONDS + REFERENCE_SECONDS_MIN)
    for second in range(100, 100 + LAG_SECONDS):
        reference.learn(second * SECOND_NS, replace(USUAL, latency=99.0))
    assert reference.figures() == USUAL


def test_seconds_without_traffic_still_let_the_old_ones_count() -> None:
    """Time passes whether or not a second teaches anything."""
    reference = learned(REFERENCE_SECONDS_MIN)
    reference.learn(100 * SECOND_NS, None)
    assert reference.figures() == USUAL


def test_the_median_second_shrugs_off_a_bad_one() -> None:
    """One slow second among many changes nothing."""
    reference = learned(20)
    reference.learn(20 * SECOND_NS, replace(USUAL, latency=99.0))
    reference.learn(40 * SECOND_NS, USUAL)
    assert reference.figures() == USUAL


def test_a_label_purges_the_seconds_before_it() -> None:
    """Those that wait and those of the last seconds are forgotten, the older ones kept."""
    reference = learned(10)
    slow = replace(USUAL, latency=99.0)
    for second in range(10, 10 + 11 + LAG_SECONDS):
        reference.learn(second * SECOND_NS, slow)
    assert reference.figures() == slow
    reference.purge(PURGE_SECONDS * SECOND_NS + 10 * SECOND_NS - 1)
    assert reference.figures() == USUAL


def test_a_purge_leaves_a_reference_that_can_be_used() -> None:
    """However many labels appear, what was once known is not forgotten whole."""
    reference = learned(LAG_SECONDS + REFERENCE_SECONDS_MIN + 3)
    for second in range(20):
        reference.purge(second * SECOND_NS)
    assert reference.figures() == USUAL


def test_memory_is_bounded_and_holds_the_newest() -> None:
    """After more than ten minutes of something new, the old is gone."""
    reference = learned(50)
    new = replace(USUAL, latency=5.0)
    for second in range(50, 50 + REFERENCE_SECONDS_MAX + LAG_SECONDS):
        reference.learn(second * SECOND_NS, new)
    assert reference.figures() == new


def test_too_few_requests_give_no_figures() -> None:
    """Below the least number of requests nothing is claimed."""
    one = sampled({"forward": StageTime(10, 5, 0)})
    assert figures([one] * (REQUESTS_MIN - 1), 1.0, None) is None
    assert figures([one] * REQUESTS_MIN, 1.0, None) is not None


def test_figures_are_the_medians_of_what_requests_are_made_of() -> None:
    """CPU around the forward and in it, waits beyond those for a CPU and a worker, rate."""
    ms = MILLISECOND_NS
    one = sampled(
        {
            "queue": StageTime(100 * ms, 0, 0),
            "preprocess": StageTime(9 * ms, 2 * ms, 3 * ms),
            "forward": StageTime(6 * ms, 6 * ms, 0),
            "serialize": StageTime(1 * ms, 1 * ms, 0),
        },
        weight=5.0,
    )
    result = figures([one] * 10, 2.0, 0.02)
    assert result == Figures(0.003, 0.006, 0.001, 0.016, 0.116, 0.02, 25.0)
