"""What a source of samples looks like to whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample

Intern: TypeAlias = Callable[[NameKind, str], int]
"""Gives a name its id; the same text gives the same id."""

PROC = Path("/proc")


class SourceNoData(Exception):
    """There is nothing to say this time; that is no fault."""


class SourceUnavailable(Exception):
    """The source cannot be read here, now or later.

    Args:
        reason: one sentence that says why and what would change it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sampler(Protocol):
    """One source. A sampler that holds descriptors also has `close()`."""

    name: str

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """Read the source.

        Args:
            now_ns: CLOCK_MONOTONIC, the time that the samples carry.

        Raises:
            SourceNoData: nothing to say this time.
            SourceUnavailable: never readable here.
        """
        ...
