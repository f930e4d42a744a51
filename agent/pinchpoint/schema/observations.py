"""Everything that the pipeline is fed, in production, in replay and in the tests.

An observation is a record and the number of the source it came from. Source 0 is the
agent itself. Time reaches the pipeline only through these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from pinchpoint.schema.events import (
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StackEvent,
    StageEvent,
    StreamEvent,
)
from pinchpoint.schema.samples import Sample

AGENT = 0
"""The source number of the agent's own readings."""


class NameKind(IntEnum):
    """What an interned name stands for."""

    METHOD = 1
    MODEL = 2
    LAYER = 3
    LOCATION = 4
    THREAD = 5
    SERVER = 6
    DEVICE = 7
    OTHER = 8
    STAGE = 9


class Name(NamedTuple):
    """An interned name. For a method, `detail` is its index in `terms.CALL_TYPES`."""

    name_id: int
    kind: int
    detail: int
    text: str


@dataclass(frozen=True)
class SourceOpened:
    """A ring was attached. Its times plus `offset_ns` are times of the reader's clock."""

    time_ns: int
    process_id: int
    offset_ns: int


@dataclass(frozen=True)
class SourceClosed:
    """The serving process is gone and its last records have been read."""

    time_ns: int


@dataclass(frozen=True)
class RecordsLost:
    """Records that were written and could not be read. `reason`: overrun, hole, invalid."""

    time_ns: int
    reason: str
    count: int


@dataclass(frozen=True)
class Tick:
    """The passing of time at the agent (CLOCK_MONOTONIC and wall clock, nanoseconds)."""

    time_ns: int
    wall_ns: int


Record = (
    RequestEvent
    | ForwardEvent
    | LayerEvent
    | StackEvent
    | StreamEvent
    | StageEvent
    | DeviceEvent
    | RequestDetail
    | Sample
    | Name
    | SourceOpened
    | SourceClosed
    | RecordsLost
    | Tick
)


class Observation(NamedTuple):
    """One record and the source it came from."""

    source: int
    record: Record
