"""A metric family as a value: its metadata and a pure function from the snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pinchpoint.snapshot import Histogram, Snapshot

Kind = Literal["counter", "gauge", "histogram"]
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
    """

    name: str
    kind: Kind
    help: str
    labels: Labels
    points: PointsOf
