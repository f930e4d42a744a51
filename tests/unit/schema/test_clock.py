from __future__ import annotations

import pytest

from pinchpoint.schema.clock import SHARED_CLOCK_TOLERANCE_NS, Anchor, offset_ns

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND


def test_processes_of_one_kernel_share_their_clock() -> None:
    """Both clocks moved on alike, so nothing is to be added."""
    assert offset_ns(Anchor(100 * SECOND, WALL), Anchor(103 * SECOND, WALL + 3 * SECOND)) == 0


def test_a_small_step_of_the_wall_clock_is_not_taken_for_another_clock() -> None:
    """Time synchronisation slews the wall clock while the monotonic one runs on."""
    written = Anchor(100 * SECOND, WALL)
    assert offset_ns(written, Anchor(101 * SECOND, WALL + SHARED_CLOCK_TOLERANCE_NS)) == 0


@pytest.mark.parametrize("ahead", [40_000 * SECOND, -40_000 * SECOND])
def test_another_time_namespace_is_measured_through_wall_time(ahead: int) -> None:
    """The writer's time plus the offset is the reader's time of the same moment."""
    written = Anchor(50_000 * SECOND, WALL)
    read = Anchor(50_000 * SECOND + ahead + 2 * SECOND, WALL + 2 * SECOND)

    offset = offset_ns(written, read)

    assert offset == ahead
    assert written.monotonic_ns + offset == read.monotonic_ns - 2 * SECOND


def test_a_writer_whose_clock_is_ahead_is_measured_too() -> None:
    """A reader that was booted later than its writer has a negative offset to add."""
    assert offset_ns(Anchor(9_000 * SECOND, WALL), Anchor(10 * SECOND, WALL)) == -8_990 * SECOND
