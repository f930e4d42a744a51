"""The collector that prometheus_client renders: reads one snapshot, does no work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as RenderedExemplar

from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.family import Family, Point
from pinchpoint.expose.web_families import scrape_families
from pinchpoint.snapshot import Exemplar, Histogram, Snapshot

if TYPE_CHECKING:
    from pinchpoint.expose.state import PublishedState

Filled = tuple[Family, Sequence[Point]]
"""A family that has series, and these."""

_SUFFIXES = {"counter": ("_total",), "gauge": (), "histogram": ("_bucket", "_count", "_sum")}

_Bucket = tuple[str, float] | tuple[str, float, RenderedExemplar]


class SnapshotCollector(Collector):
    """Every family of the snapshot that is published at the moment of the scrape.

    A family without a series is left out whole: absent is absent.

    Args:
        state: where the snapshot is published.
        names: of families or of their samples; only these families, or all if it is empty.
    """

    def __init__(self, state: PublishedState, names: Collection[str] = ()) -> None:
        self._state = state
        self._names = frozenset(names)

    def collect(self) -> Iterable[Metric]:
        """The families as prometheus_client's own values."""
        for family, points in self.filled():
            yield _metric(family, points)

    def filled(self) -> Iterator[Filled]:
        """The families that have at least one series."""
        snapshot = self._state.snapshot
        if snapshot is not None:
            families = (*FAMILIES, *scrape_families(self._state.scrapes))
            yield from _filled((f for f in families if self._selects(f)), snapshot)

    def _selects(self, family: Family) -> bool:
        if not self._names:
            return True
        samples = (family.name + suffix for suffix in _SUFFIXES[family.kind])
        return not self._names.isdisjoint((family.name, *samples))


def render(snapshot: Snapshot) -> Iterator[Metric]:
    """The families of a snapshot as prometheus_client's own values."""
    for family, points in _filled(FAMILIES, snapshot):
        yield _metric(family, points)


def _filled(families: Iterable[Family], snapshot: Snapshot) -> Iterator[Filled]:
    for family in families:
        points = tuple(family.points(snapshot))
        if points:
            yield family, points


def _metric(family: Family, points: Sequence[Point]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(
            family.name, family.help, labels=family.labels, unit=family.unit
        )
        for labels, value in points:
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, _cumulative(value), value.sum)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    simple = kind(family.name, family.help, labels=family.labels, unit=family.unit)
    for labels, value in points:
        assert not isinstance(value, Histogram)
        simple.add_metric(labels, value)
    return simple


def _cumulative(histogram: Histogram) -> list[_Bucket]:
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    exemplars: Sequence[Exemplar | None] = histogram.exemplars or [None] * len(bounds)
    buckets: list[_Bucket] = []
    total = 0
    for bound, count, exemplar in zip(bounds, histogram.counts, exemplars, strict=True):
        total += count
        if exemplar is None:
            buckets.append((bound, float(total)))
        else:
            buckets.append((bound, float(total), _rendered(exemplar)))
    return buckets


def _rendered(exemplar: Exemplar) -> RenderedExemplar:
    return RenderedExemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.wall_seconds)
