"""A metric family as a value: its metadata and a pure function from the snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pinchpoint.snapshot import Histogram, Snapshot

Kind = Literal["counter", "gauge", "histogram"]
Stability = Literal["stable", "experimental"]
UNITS = (
    "bytes_per_second",
    "seconds",
    "bytes",
    "ratio",
    "celsius",
    "watts",
    "joules",
    "hertz",
    "cores",
)
Labels = tuple[str, ...]
Point = tuple[Labels, "float | Histogram"]
"""Label values, in the family's order, and the value."""
PointsOf = Callable[[Snapshot], Iterable[Point]]


@dataclass(frozen=True)
class Family:
    """One metric family.

    Attributes:
        name: as exposed, without the `_total` of a counter.
        kind: counter, gauge or histogram. A gauge named `*_info` is always 1.
        help: one sentence.
        labels: names of the labels.
        points: the series of a snapshot; none for what is absent.
        stability: whether name, labels and meaning are kept, or may change.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels
    points: PointsOf
    stability: Stability = "stable"

    @property
    def unit(self) -> str:
        """The base unit that the name ends with, "" for a plain number."""
        return next((unit for unit in UNITS if self.name.endswith(f"_{unit}")), "")


def single(value: float | None) -> Iterable[Point]:
    """The one series of a family without labels; none if the value is not known."""
    if value is not None:
        yield (), value


def filled(histogram: Histogram) -> Iterable[Point]:
    """The one series of a family without labels, from its first value on."""
    if histogram.count:
        yield (), histogram


def by_label(values: Mapping[str, float]) -> Iterable[Point]:
    """One series for each value of the only label."""
    for label, value in values.items():
        yield (label,), value
