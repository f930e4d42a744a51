"""The bytes of a recording: ring slots as they were read, in frames, in the order in which
the agent saw them.

    file    | magic (8) | version u16 | zero u16 | byte-order mark u32 | frame | frame | ...
    frame   | kind u8 | source u32 | length u16 | payload (length bytes) |

Payloads of the kinds EVENT, DETAIL and NAME are ring slots (`schema.wire`); the agent's own
samples are DETAIL slots of source 0. Each kind has one length, so that damage shows at once. A
recording belongs to the byte order of the machine that made it, and its mark says so.

What would break: changing a struct or the order of `LOSS_REASONS` without raising
`wire.VERSION`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from pinchpoint.schema import wire
from pinchpoint.schema.observations import (
    Record,
    RecordsLost,
    SourceClosed,
    SourceOpened,
    Tick,
)

MAGIC = b"PINCHREC"
HEADER = struct.Struct("=8sHHI")
FRAME = struct.Struct("=BIH")
BYTE_ORDER_MARK = 0x01020304

LOSS_REASONS = ("overrun", "hole", "invalid")

_OPENED = struct.Struct("=QIq")
_CLOSED = struct.Struct("=Q")
_LOST = struct.Struct("=QBQ")
_TICK = struct.Struct("=QQ")


class FrameKind(IntEnum):
    """What the payload of a frame is. The first three are the ring's segments."""

    EVENT = 1
    DETAIL = 2
    NAME = 3
    OPENED = 4
    CLOSED = 5
    LOST = 6
    TICK = 7


PAYLOAD_BYTES = {
    FrameKind.EVENT: wire.EVENT_BYTES,
    FrameKind.DETAIL: wire.DETAIL_BYTES,
    FrameKind.NAME: wire.NAME_BYTES,
    FrameKind.OPENED: _OPENED.size,
    FrameKind.CLOSED: _CLOSED.size,
    FrameKind.LOST: _LOST.size,
    FrameKind.TICK: _TICK.size,
}

SEGMENT_KIND = {
    wire.Segment.EVENTS: FrameKind.EVENT,
    wire.Segment.DETAILS: FrameKind.DETAIL,
    wire.Segment.NAMES: FrameKind.NAME,
}

Control = SourceOpened | SourceClosed | RecordsLost | Tick
"""Records that no ring holds: the agent makes them."""


class Frame(NamedTuple):
    """One frame: a record as bytes and the source that it came from."""

    kind: FrameKind
    source: int
    payload: bytes

    def pack(self) -> bytes:
        """The frame as it is stored."""
        return FRAME.pack(self.kind, self.source, len(self.payload)) + self.payload


def pack_header() -> bytes:
    """The first bytes of a recording made here."""
    return HEADER.pack(MAGIC, wire.VERSION, 0, BYTE_ORDER_MARK)


def control_frame(source: int, record: Control) -> Frame:
    """A record that the agent made."""
    if isinstance(record, Tick):
        return Frame(FrameKind.TICK, source, _TICK.pack(record.time_ns, record.wall_ns))
    if isinstance(record, SourceOpened):
        payload = _OPENED.pack(record.time_ns, record.process_id, record.offset_ns)
        return Frame(FrameKind.OPENED, source, payload)
    if isinstance(record, SourceClosed):
        return Frame(FrameKind.CLOSED, source, _CLOSED.pack(record.time_ns))
    reason = LOSS_REASONS.index(record.reason)
    return Frame(FrameKind.LOST, source, _LOST.pack(record.time_ns, reason, record.count))


def unpack_frame(kind: FrameKind, payload: bytes) -> Record:
    """The record in a payload of the right length.

    Raises:
        InvalidRecordError: no record of this version.
    """
    if kind in (FrameKind.EVENT, FrameKind.DETAIL, FrameKind.NAME):
        return _unpack_slot(kind, payload)
    if kind is FrameKind.TICK:
        return Tick(*_TICK.unpack(payload))
    if kind is FrameKind.OPENED:
        return SourceOpened(*_OPENED.unpack(payload))
    if kind is FrameKind.CLOSED:
        return SourceClosed(*_CLOSED.unpack(payload))
    time_ns, reason, count = _LOST.unpack(payload)
    if reason >= len(LOSS_REASONS):
        raise wire.InvalidRecordError(f"unknown reason {reason} of a loss")
    return RecordsLost(time_ns, LOSS_REASONS[reason], count)


def _unpack_slot(kind: FrameKind, slot: bytes) -> Record:
    (first,) = wire.SEQUENCE.unpack_from(slot)
    (last,) = wire.SEQUENCE.unpack_from(slot, len(slot) - wire.SEQUENCE.size)
    if first != last or first == 0:
        raise wire.InvalidRecordError("a slot whose sequence numbers differ")
    if kind is FrameKind.EVENT:
        return wire.unpack_event(slot)
    if kind is FrameKind.DETAIL:
        return wire.unpack_detail(slot)
    return wire.unpack_name(slot)
