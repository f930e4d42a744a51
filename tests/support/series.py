"""Counting the series of a snapshot as a scrape would hold them."""

from __future__ import annotations

from collections import Counter

from pinchpoint.expose.families import FAMILIES
from pinchpoint.pipeline.costs import SERIES_BESIDE_BOUNDS
from pinchpoint.snapshot import Histogram, Snapshot


def series_of(snapshot: Snapshot) -> Counter[str]:
    """Series by family."""
    series: Counter[str] = Counter()
    for family in FAMILIES:
        for _, value in family.points(snapshot):
            if isinstance(value, Histogram):
                series[family.name] += len(value.bounds) + SERIES_BESIDE_BOUNDS
            else:
                series[family.name] += 1
    return series
