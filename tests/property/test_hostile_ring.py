"""Whatever bytes a ring file has, a reader ends in RingError or in losses."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pinchpoint.ring.layout import HEADER_BYTES, Header, RingError, pack_header, plan
from pinchpoint.ring.reader import HOLE_PATIENCE_NS, Loss, RingReader
from pinchpoint.schema.observations import Name
from pinchpoint.schema.wire import (
    SLOT_BYTES,
    VERSION,
    InvalidRecordError,
    Segment,
    unpack_detail,
    unpack_event,
    unpack_name,
)

COUNTS = (8, 4, 4)
SEGMENTS = plan(COUNTS)
BODY_BYTES = Header(VERSION, 1, 1, 1, "", SEGMENTS).file_bytes - HEADER_BYTES
UNPACK = (unpack_event, unpack_detail, unpack_name)


def read_all(data: bytes, *, from_start: bool) -> None:
    """What an agent does with a ring, a few polls long."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.ring"
        path.write_bytes(data)
        try:
            reader = RingReader(path, from_start=from_start)
        except RingError:
            return
        losses: list[Loss] = []
        reader.anchor()
        for poll in range(4):
            for segment in Segment:
                for slot in reader.poll(segment, poll * HOLE_PATIENCE_NS + 1, losses.append):
                    try:
                        record = UNPACK[segment](slot)
                    except InvalidRecordError:
                        continue
                    assert isinstance(record, Name) == (segment is Segment.NAMES)
        reader.close()
        assert all(loss.records > 0 for loss in losses)


@given(st.binary(max_size=3 * HEADER_BYTES), st.booleans())
@settings(max_examples=50, deadline=None)
def test_random_bytes_are_no_ring(data: bytes, from_start: bool) -> None:
    """A file of any content and size."""
    read_all(data, from_start=from_start)


@given(
    edits=st.lists(st.tuples(st.integers(0, 128), st.binary(min_size=1, max_size=9)), max_size=6),
    cut=st.integers(0, BODY_BYTES),
    from_start=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_header_with_any_damage_is_refused_or_read(
    edits: list[tuple[int, bytes]], cut: int, from_start: bool
) -> None:
    """Bytes of a good header changed, and the file cut anywhere."""
    data = bytearray(pack_header(Header(VERSION, 1, 1, 1, "boot", SEGMENTS)) + bytes(BODY_BYTES))
    for offset, replacement in edits:
        data[offset : offset + len(replacement)] = replacement
    read_all(bytes(data[: HEADER_BYTES + BODY_BYTES - cut // 8]), from_start=from_start)


@st.composite
def slots(draw: st.DrawFn) -> bytes:
    """Segments of slots whose numbers are near what they could be, and bodies that are not."""
    body = bytearray()
    for segment, slot_bytes in zip(SEGMENTS, SLOT_BYTES, strict=True):
        for index in range(segment.slot_count):
            laps = draw(st.sampled_from((0, 1, 2, 3, 2**40, 2**58)))
            first = (index + 1 + laps * segment.slot_count) % 2**64
            last = draw(st.sampled_from((first, 0, first + 1, 2**64 - 1)))
            if draw(st.booleans()):
                first, last = draw(st.sampled_from(((0, 0), (last, first))))
            kind = draw(st.integers(0, 8))
            fill = draw(st.binary(max_size=16))
            inner = (struct.pack("@H", kind) + fill).ljust(slot_bytes - 16, fill[:1] or b"\0")
            body += struct.pack("@Q", first) + inner + struct.pack("@Q", last)
    return bytes(body)


@given(slots(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_slots_with_any_numbers_end_in_records_or_losses(body: bytes, from_start: bool) -> None:
    """A good header before sequence numbers and bodies of every kind."""
    header = pack_header(Header(VERSION, 1, 1, 1, "boot", SEGMENTS))
    read_all(header + body, from_start=from_start)
