"""How many names keep series of their own. Beyond, they are folded into `_OTHER`: names come from
the server, some from its clients, and must not make series without end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Literal

from pinchpoint.schema.terms import OTHER

Kind = Literal["methods", "statuses", "models", "layers", "stages", "readings"]


@dataclass(frozen=True)
class Caps:
    """The most names of each kind, and the most series of all kinds together.

    Attributes:
        methods: gRPC methods and HTTP routes together.
        statuses: HTTP codes of one route: clients can provoke many, and each is a histogram.
        models: torch models.
        layers: layers of one model.
        stages: stages that the server's code names.
        readings: signals, and instances of one type of sample.
        series: the most that a scrape holds, whatever comes.
    """

    methods: int = 64
    statuses: int = 8
    models: int = 16
    layers: int = 32
    stages: int = 32
    readings: int = 32
    series: int = 5000


SERIES_MIN = 2500
"""The least that `Caps.series` may be: what is always there, with the longest histograms."""


METHODS_SHARE = 0.75
"""Of the room that methods, routes and their statuses may take: a server declares them all at its
start, before it has shown a model, a stage or a GPU."""


class Admission:
    """Decides which names get series of their own, first come first served.

    Args:
        caps: what there is room for.
        reserved: series that are there without a decision.

    Attributes:
        folded: by kind, records of names that did not get their own.
    """

    def __init__(self, caps: Caps, reserved: int = 0) -> None:
        self._most = {field.name: getattr(caps, field.name) for field in fields(caps)}
        self._left = self._most.pop("series") - reserved
        self._left_of_methods = int(METHODS_SHARE * self._left)
        self._admitted: dict[Hashable, set[Hashable]] = {}
        self.folded = Counter(dict.fromkeys(self._most, 0))

    def admits(self, kind: Kind, name: Hashable, series: int, within: Hashable = None) -> bool:
        """Whether the name has series of its own, or may have from now on; else it is counted.

        Args:
            series: the most that the name can make.
            within: whose names these are, where each has its own: a model's layers.
        """
        admitted = self._admitted.setdefault((kind, within), set())
        if name in admitted:
            return True
        of_methods = kind in ("methods", "statuses")
        room = min(self._left, self._left_of_methods) if of_methods else self._left
        if len(admitted) >= self._most[kind] or series > room:
            self.folded[kind] += 1
            return False
        self._left -= series
        if of_methods:
            self._left_of_methods -= series
        admitted.add(name)
        return True

    def name(self, kind: Kind, name: str, series: int, within: Hashable = None) -> str:
        """The name if it has series of its own, else `_OTHER`."""
        return name if name == OTHER or self.admits(kind, name, series, within) else OTHER
