from __future__ import annotations

import pytest

from pinchpoint.detect.confirm import Hysteresis


def active_after(looks: str) -> bool:
    hysteresis = Hysteresis()
    for time_ns, look in enumerate(looks):
        hysteresis.look(time_ns, look == "x")
    return hysteresis.active


@pytest.mark.parametrize("looks", ["xx", "x-x", "-xx", "xx-", "xx--x", "xxxx"])
def test_two_of_three_looks_make_a_label_active(looks: str) -> None:
    """It stays so while any of the last three looks passes."""
    assert active_after(looks)


@pytest.mark.parametrize("looks", ["", "x", "-x-", "x--x--x"])
def test_single_looks_make_no_label_active(looks: str) -> None:
    """One bad second is no bottleneck."""
    assert not active_after(looks)


def test_three_looks_that_fail_clear_a_label() -> None:
    """Two do not."""
    assert active_after("xxx--")
    assert not active_after("xxx---")


def test_a_label_is_active_since_the_look_that_made_it_so() -> None:
    """Later looks do not move the beginning."""
    hysteresis = Hysteresis()
    for time_ns in (10, 20, 30, 40):
        hysteresis.look(time_ns, True)
    assert hysteresis.since_ns == 20
