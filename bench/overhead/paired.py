"""Medians of paired differences and ratios, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median
from typing import NamedTuple

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A median and its interval."""

    median: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """The median with the interval that order statistics give it, whatever the distribution.

    At least 95 % sure from six values on; with fewer it is their range.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return Estimate(median(ordered), ordered[rank], ordered[-1 - rank])


def _rank(count: int) -> int:
    """How many values may be left out at each end."""
    rank, below = 0, 1
    while 2 * below <= (1 - CONFIDENCE) * 2**count:
        rank += 1
        below += comb(count, rank)
    return max(0, rank - 1)
