"""The interval of a median, and what is computed with it."""

import pytest

from bench.overhead.paired import estimate
from bench.overhead.rpc_path import added_ns, times_cheaper
from bench.overhead.variants import BARE, PINCHPOINT, PY_GRPC_PROMETHEUS


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Ranks of the two-sided 95 % sign interval, as in any table of order statistics.
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (20, 6, 15), (30, 10, 21)],
)
def test_interval_has_the_ranks_of_the_sign_test(count: int, low: int, high: int) -> None:
    """The order of the values does not matter."""
    found = estimate([float(value) for value in range(count, 0, -1)])
    assert (found.low, found.high) == (low, high)
    assert found.median == (count + 1) / 2


def test_nothing_is_no_estimate() -> None:
    """Nor is it zero."""
    with pytest.raises(ValueError, match="nothing"):
        estimate([])


SAMPLES = {
    BARE: [[100.0, 200.0, 150.0], [100.0, 100.0, 100.0]],
    PINCHPOINT: [[110.0, 210.0, 999.0], [120.0, 120.0, 120.0]],
    PY_GRPC_PROMETHEUS: [[200.0, 300.0, 250.0], [200.0, 200.0, 200.0]],
}


def test_added_time_is_paired_by_round() -> None:
    """A slow round of both arms adds nothing, a slow turn of one does not decide."""
    assert added_ns(SAMPLES, PINCHPOINT) == (15.0, 10.0, 20.0)


def test_ratio_is_taken_within_a_generation() -> None:
    """Processes of different generations are not compared."""
    assert times_cheaper(SAMPLES, PINCHPOINT, PY_GRPC_PROMETHEUS) == (7.5, 5.0, 10.0)


def test_ratio_is_finite_where_noise_is_larger_than_the_cost() -> None:
    """An arm that seems to cost nothing is taken to cost a nanosecond."""
    samples = {**SAMPLES, PINCHPOINT: SAMPLES[BARE]}
    assert times_cheaper(samples, PINCHPOINT, PY_GRPC_PROMETHEUS).median == 100.0
