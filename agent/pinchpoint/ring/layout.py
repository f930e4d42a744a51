"""Where things are in a ring file. README.md beside this file draws it.

A ring is one file per serving process. Its header says everything a reader needs, and
is complete before the file gets its final name, so a reader never sees half a header.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pinchpoint.schema.wire import SLOT_BYTES, VERSION, Segment

MAGIC = b"PINCHRNG"
HEADER_BYTES = 4096
SUFFIX = ".ring"

_FIXED = struct.Struct("@8sIIIIQQ40s")
_SEGMENT = struct.Struct("@QII")
ANCHOR_OFFSET = 512
ANCHOR = struct.Struct("@QQQQ")
"""Sequence, monotonic ns, wall ns, sequence: read like any slot."""

SLOT_COUNTS = (16384, 2048, 2048)
"""Events, details, names: 3.5 MiB. 16 s of events at 1,000 requests/s."""

SLOT_COUNT_MAX = 1 << 18
"""Bound on what a header can make a reader scan: 16 times the largest segment of today."""


class RingError(Exception):
    """A file is not a ring that can be read; the message says what to do."""


class SegmentLayout(NamedTuple):
    """One segment. `slot_count` is a power of two; offsets are bytes from the start."""

    offset: int
    slot_bytes: int
    slot_count: int


class Header(NamedTuple):
    """What a writer states once about itself and its file."""

    version: int
    process_id: int
    start_monotonic_ns: int
    start_wall_ns: int
    boot_id: str
    segments: tuple[SegmentLayout, ...]

    @property
    def file_bytes(self) -> int:
        """The size that the file must have at least."""
        return max(s.offset + s.slot_bytes * s.slot_count for s in self.segments)


def plan(slot_counts: tuple[int, ...] = SLOT_COUNTS) -> tuple[SegmentLayout, ...]:
    """The segments of a new ring, one after the other behind the header page."""
    offset = HEADER_BYTES
    segments = []
    for slot_bytes, slot_count in zip(SLOT_BYTES, slot_counts, strict=True):
        segments.append(SegmentLayout(offset, slot_bytes, slot_count))
        offset += slot_bytes * slot_count
    return tuple(segments)


def pack_header(header: Header) -> bytes:
    """The header page, zero-filled."""
    page = bytearray(HEADER_BYTES)
    _FIXED.pack_into(
        page,
        0,
        MAGIC,
        header.version,
        HEADER_BYTES,
        header.process_id,
        len(header.segments),
        header.start_monotonic_ns,
        header.start_wall_ns,
        header.boot_id.encode("ascii", "replace")[:40],
    )
    for index, segment in enumerate(header.segments):
        _SEGMENT.pack_into(page, _FIXED.size + index * _SEGMENT.size, *segment)
    return bytes(page)


def unpack_header(page: bytes, file_bytes: int) -> Header:
    """The header of a ring of `file_bytes`; every number in it is checked.

    Raises:
        RingError: not a ring, another version, or numbers that do not add up.
    """
    if len(page) < HEADER_BYTES or page[:8] != MAGIC:
        raise RingError("not a Pinchpoint ring (its first bytes are not a ring's magic number)")
    _, version, header_bytes, process_id, count, monotonic_ns, wall_ns, boot_id = (
        _FIXED.unpack_from(page)
    )
    if version != VERSION:
        raise RingError(
            f"ring format {version}, this agent reads format {VERSION}: "
            "run the agent of the same Pinchpoint release as the probe"
        )
    if header_bytes != HEADER_BYTES or count != len(Segment):
        raise RingError("ring header is damaged (header size or segment count)")
    segments = tuple(
        SegmentLayout(*_SEGMENT.unpack_from(page, _FIXED.size + index * _SEGMENT.size))
        for index in range(count)
    )
    for segment, slot_bytes in zip(segments, SLOT_BYTES, strict=True):
        slots = segment.slot_count
        sound = (
            segment.slot_bytes == slot_bytes
            and 0 < slots <= SLOT_COUNT_MAX
            and slots & (slots - 1) == 0
            and HEADER_BYTES <= segment.offset <= file_bytes - slots * slot_bytes
        )
        if not sound:
            raise RingError("ring header is damaged (a segment lies outside the file)")
    text = boot_id.rstrip(b"\0").decode("ascii", "replace")
    return Header(version, process_id, monotonic_ns, wall_ns, text, segments)
