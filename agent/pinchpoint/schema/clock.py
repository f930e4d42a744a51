"""The pair of clocks that lets a reader check that it shares the writer's time."""

from __future__ import annotations

from typing import NamedTuple


class Anchor(NamedTuple):
    """One reading of both clocks of a serving process, refreshed once a second.

    `CLOCK_MONOTONIC` is common to the processes of one kernel, but not across time
    namespaces; a reader compares instead of assuming.
    """

    monotonic_ns: int
    wall_ns: int


SHARED_CLOCK_TOLERANCE_NS = 5_000_000_000
"""An anchor is refreshed every second; older than this by the reader's own monotonic
clock, or ahead of it, means that the two clocks differ."""


def offset_ns(written: Anchor, read: Anchor) -> int:
    """What to add to the writer's monotonic times to get the reader's, in nanoseconds.

    Zero when both share a clock. Otherwise the difference of the two clocks' distance
    to wall time, which both processes do share.
    """
    age_ns = read.monotonic_ns - written.monotonic_ns
    wall_age_ns = read.wall_ns - written.wall_ns
    if abs(age_ns - wall_age_ns) <= SHARED_CLOCK_TOLERANCE_NS:
        return 0
    return (read.monotonic_ns - read.wall_ns) - (written.monotonic_ns - written.wall_ns)
