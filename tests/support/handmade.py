"""A ring file whose slots are written by hand, in any state a writer could leave them in."""

from __future__ import annotations

import os
from pathlib import Path

from pinchpoint.ring.layout import Header, SegmentLayout, pack_header, plan
from pinchpoint.ring.reader import Loss, RingReader
from pinchpoint.schema import wire
from pinchpoint.schema.events import RequestEvent
from pinchpoint.schema.wire import Segment, unpack_event
from tests.support.records import pack_event

EVENTS = 8
EMPTY = RequestEvent(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class HandMadeRing:
    """A ring of eight event slots. Record number `n` has `arrival_ns` equal to `n`."""

    def __init__(self, path: Path, segments: tuple[SegmentLayout, ...] | None = None) -> None:
        self.path = path
        self.segments = segments or plan((EVENTS, 4, 4))
        self.header = Header(wire.VERSION, 1234, 10, 20, "boot", self.segments)
        path.write_bytes(pack_header(self.header).ljust(self.header.file_bytes, b"\0"))

    def write(self, data: bytes, offset: int) -> None:
        """Overwrite bytes of the file."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def put(self, *sequences: int) -> None:
        """Write whole records."""
        for sequence in sequences:
            self.put_torn(sequence, first=sequence, last=sequence)

    def put_torn(self, sequence: int, *, first: int, last: int) -> None:
        """Write a record's slot with numbers that need not agree."""
        slot = bytearray(pack_event(sequence, EMPTY._replace(arrival_ns=sequence)))
        wire.SEQUENCE.pack_into(slot, 0, first)
        wire.SEQUENCE.pack_into(slot, wire.EVENT_BYTES - 8, last)
        events = self.segments[Segment.EVENTS]
        index = (sequence - 1) % events.slot_count
        self.write(bytes(slot), events.offset + index * wire.EVENT_BYTES)


class Follower:
    """A reader, and everything that it has been given and has lost."""

    def __init__(self, path: Path, *, from_start: bool = True) -> None:
        self.reader = RingReader(path, from_start=from_start)
        self.losses: list[Loss] = []

    def poll(self, now_ns: int = 0) -> list[int]:
        """The numbers of the records that are new."""
        slots = self.reader.poll(Segment.EVENTS, now_ns, self.losses.append)
        events = [unpack_event(slot) for slot in slots]
        return [event.arrival_ns for event in events if isinstance(event, RequestEvent)]

    def lost(self, reason: str) -> int:
        """Records lost for a reason."""
        return sum(loss.records for loss in self.losses if loss.reason == reason)
