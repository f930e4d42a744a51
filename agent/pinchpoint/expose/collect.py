"""The collector that prometheus_client renders: reads one snapshot, does no work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.family import Family
from pinchpoint.snapshot import Histogram, Snapshot

if TYPE_CHECKING:
    from pinchpoint.expose.state import PublishedState


class SnapshotCollector(Collector):
    """Every family of the snapshot that is published at the moment of the scrape.

    A family without a series is left out whole: absent is absent.
    """

    def __init__(self, state: PublishedState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """All families with at least one series."""
        snapshot = self._state.snapshot
        if snapshot is not None:
            yield from render(snapshot)


def render(snapshot: Snapshot) -> Iterator[Metric]:
    """The families of a snapshot as prometheus_client's own values."""
    for family in FAMILIES:
        metric = _metric(family, snapshot)
        if metric.samples:
            yield metric


def _metric(family: Family, snapshot: Snapshot) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, value in family.points(snapshot):
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, _cumulative(value), value.sum)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    simple = kind(family.name, family.help, labels=family.labels)
    for labels, value in family.points(snapshot):
        assert not isinstance(value, Histogram)
        simple.add_metric(labels, value)
    return simple


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    buckets = []
    total = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
    return buckets
