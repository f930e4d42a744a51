"""Families that are fields of samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pinchpoint.expose.family import Family, Labels, Point, PointsOf
from pinchpoint.snapshot import Snapshot

NS = 1e-9
"""Nanoseconds in base units."""

Reading = tuple[str, str, float, Labels]
"""Sample type's name, field, scale to the base unit, label values."""


def _points(readings: Sequence[Reading], *, counters: bool) -> PointsOf:
    def points(snapshot: Snapshot) -> Iterable[Point]:
        values = snapshot.counters if counters else snapshot.gauges
        for sample_type, field, scale, labels in readings:
            value = values.get((sample_type, "", field))
            if value is not None:
                yield labels, value * scale

    return points


def counter(name: str, text: str, labels: Labels, *readings: Reading) -> Family:
    """A counter of one field, or of several told apart by their labels."""
    return Family(name, "counter", text, labels, _points(readings, counters=True))


def gauge(name: str, text: str, *readings: Reading) -> Family:
    """A gauge of one field."""
    return Family(name, "gauge", text, (), _points(readings, counters=False))


def named(sample_type: str, field: str, scale: float, *, counters: bool) -> PointsOf:
    """One field of a type whose instances keep their names, by name."""

    def points(snapshot: Snapshot) -> Iterable[Point]:
        values = snapshot.counters if counters else snapshot.gauges
        for (kind, name, key), value in sorted(values.items()):
            if kind == sample_type and key == field and name:
                yield (name,), value * scale

    return points
