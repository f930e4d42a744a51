from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.probe.governor import (
    CPU_FLOOR_CORES,
    CPU_SHARE,
    LOOK_SECONDS,
    LOOK_SECONDS_MAX,
    RATIO_MIN,
    CpuAccount,
    Governor,
)
from pinchpoint.probe.recorder import DETAILS_PER_SECOND

SECOND_NS = 1_000_000_000
MS = 1_000_000


def simulate(
    seconds: int, process_ns: float, fixed_ns: float, sampled_ns: Callable[[int], float]
) -> list[float]:
    """The ratio of every second. What is sampled costs `sampled_ns` at the full rate."""
    governor = Governor()
    ratios = []
    for second in range(seconds):
        governor.decide(fixed_ns + sampled_ns(second) * governor.ratio, process_ns, SECOND_NS)
        ratios.append(governor.ratio)
    return ratios


def test_within_the_budget_everything_is_sampled() -> None:
    """5 ms of a server that uses a whole core."""
    assert set(simulate(60, SECOND_NS, 2 * MS, lambda _: 3 * MS)) == {1.0}


@pytest.mark.parametrize("cores", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("times_too_much", [1.5, 4.0, 7.0])
def test_above_it_the_probe_comes_to_rest_below_its_share(
    cores: float, times_too_much: float
) -> None:
    """Steadily: the rate does not swing once it has been found."""
    allowed_ns = CPU_SHARE * cores * SECOND_NS
    ratios = simulate(60, cores * SECOND_NS, 0.0, lambda _: times_too_much * allowed_ns)
    settled = ratios[20:]
    assert max(settled) * times_too_much <= 1.0
    assert min(settled) * times_too_much >= 0.4
    assert max(settled) - min(settled) <= 0.15 * max(settled)


def test_sampling_is_never_ended() -> None:
    """What the budget cannot hold is not the sampling's alone: 30 details stay in 10 s."""
    ratios = simulate(60, SECOND_NS, 50 * MS, lambda _: 50 * MS)
    assert ratios[-1] == RATIO_MIN
    assert RATIO_MIN * DETAILS_PER_SECOND * 10 >= 30


def test_an_idle_server_is_still_observed() -> None:
    """One per cent of nothing is nothing; the floor is the probe's own rest."""
    assert set(simulate(60, 3 * MS, CPU_FLOOR_CORES * SECOND_NS * 0.9, lambda _: 0.0)) == {1.0}


def test_a_burst_of_a_second_changes_little_and_is_made_up_for() -> None:
    """Twice the budget once: a step down, and back."""
    ratios = simulate(60, SECOND_NS, 0.0, lambda second: 30 * MS if second == 10 else 5 * MS)
    assert ratios[9] == 1.0
    assert 0.5 <= min(ratios) < 1.0
    assert ratios[-1] == 1.0


def test_what_was_taken_away_comes_back_slowly() -> None:
    """A budget that was exceeded a moment ago is not tried again at once."""
    ratios = simulate(120, SECOND_NS, 0.0, lambda second: 100 * MS if second < 20 else 1 * MS)
    assert ratios[19] == RATIO_MIN
    back = ratios.index(1.0, 20)
    assert back - 20 >= 20
    steps = [later / sooner for sooner, later in pairwise(ratios[20:])]
    assert max(steps) <= 1.1001


def test_looks_follow_the_ratio_down_to_one_a_second() -> None:
    governor = Governor()
    assert governor.look_seconds == LOOK_SECONDS
    governor.ratio = 0.5
    assert governor.look_seconds == 2 * LOOK_SECONDS
    governor.ratio = RATIO_MIN
    assert governor.look_seconds == LOOK_SECONDS_MAX


CPU_NS = st.floats(0, 1e12)


@given(st.lists(st.tuples(CPU_NS, CPU_NS, CPU_NS), max_size=50))
def test_whatever_is_measured_the_ratio_stays_within_its_bounds(
    seconds: list[tuple[float, float, float]],
) -> None:
    """Clocks that stand still, and seconds of any length."""
    governor = Governor()
    for probe_ns, process_ns, elapsed_ns in seconds:
        governor.decide(probe_ns, process_ns, elapsed_ns)
        assert RATIO_MIN <= governor.ratio <= 1.0


def test_the_account_charges_threads_as_measured_and_details_as_calibrated() -> None:
    """Of other threads only what is new."""
    account = CpuAccount()
    assert account.detail_ns > 0
    first_ns, _, _ = account.add(5 * MS, 0.0)
    second_ns, process_ns, elapsed_ns = account.add(8 * MS, 100.0)
    assert first_ns >= 5 * MS
    assert second_ns >= 3 * MS + 100 * account.detail_ns
    assert account.used_ns == first_ns + second_ns
    assert process_ns > 0
    assert elapsed_ns > 0
