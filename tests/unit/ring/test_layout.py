from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinchpoint.ring.layout import (
    HEADER_BYTES,
    SLOT_COUNT_MAX,
    SLOT_COUNTS,
    Header,
    RingError,
    SegmentLayout,
    pack_header,
    plan,
    unpack_header,
)
from pinchpoint.ring.reader import RingReader
from pinchpoint.schema.wire import SLOT_BYTES, VERSION
from tests.support.handmade import HandMadeRing

BOOT = "5c0c1d5e-8f0e-4a51-9b5a-0123456789ab"
HEADER = Header(VERSION, 4321, 100, 200, BOOT, plan())


def test_a_header_survives_its_page() -> None:
    """What a writer states is what a reader gets."""
    page = pack_header(HEADER)
    assert len(page) == HEADER_BYTES
    assert unpack_header(page, HEADER.file_bytes) == HEADER


def test_the_default_ring_fits_in_what_is_promised() -> None:
    """Segments follow each other without a gap; all of it is 3.5 MiB and the header."""
    end = HEADER_BYTES
    for segment, slots, size in zip(plan(), SLOT_COUNTS, SLOT_BYTES, strict=True):
        assert segment == SegmentLayout(end, size, slots)
        end += slots * size
    assert end == HEADER.file_bytes == HEADER_BYTES + 3_670_016


def test_another_version_says_what_to_do() -> None:
    """Probe and agent of different releases is an ordinary state during a roll-out."""
    page = pack_header(HEADER._replace(version=VERSION + 1))
    with pytest.raises(RingError, match=f"format {VERSION + 1}.*same Pinchpoint release"):
        unpack_header(page, HEADER.file_bytes)


def test_what_is_no_ring_is_said_to_be_none() -> None:
    """Any other file in the directory."""
    with pytest.raises(RingError, match="magic number"):
        unpack_header(b"ELF".ljust(HEADER_BYTES, b"\0"), HEADER_BYTES)


def _with(index: int, **changes: int) -> Header:
    segments = list(plan())
    segments[index] = segments[index]._replace(**changes)
    return HEADER._replace(segments=tuple(segments))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(HEADER._replace(segments=plan()[:2]), id="a segment missing"),
        pytest.param(_with(0, slot_count=0), id="no slots"),
        pytest.param(_with(0, slot_count=3), id="not a power of two"),
        pytest.param(_with(0, slot_count=2 * SLOT_COUNT_MAX), id="more slots than any ring"),
        pytest.param(_with(1, slot_bytes=256), id="slots of another size"),
        pytest.param(_with(0, offset=0), id="a segment in the header"),
        pytest.param(_with(2, offset=1 << 63), id="a segment behind the end"),
        pytest.param(_with(2, slot_count=4096), id="a segment longer than the file"),
    ],
)
def test_numbers_that_do_not_add_up_are_damage(header: Header) -> None:
    """No number of the header is used before it has been checked."""
    with pytest.raises(RingError, match="damaged"):
        unpack_header(pack_header(header), HEADER.file_bytes)


@pytest.mark.parametrize("kept", [0, 7, HEADER_BYTES - 1])
def test_a_file_without_a_whole_header_is_no_ring(tmp_path: Path, kept: int) -> None:
    """A copy that was interrupted, or somebody else's file."""
    ring = HandMadeRing(tmp_path / "a.ring")
    os.truncate(ring.path, kept)
    with pytest.raises(RingError, match="shorter than its header"):
        RingReader(ring.path)


def test_a_file_cut_behind_its_header_is_damaged(tmp_path: Path) -> None:
    """A segment that is not all there would be a SIGBUS waiting to happen."""
    ring = HandMadeRing(tmp_path / "a.ring")
    os.truncate(ring.path, ring.header.file_bytes - 1)
    with pytest.raises(RingError, match="outside the file"):
        RingReader(ring.path)


def test_a_pipe_is_no_ring_and_nobody_waits_at_it(tmp_path: Path) -> None:
    """Opening a FIFO waits for a writer that will never come."""
    os.mkfifo(tmp_path / "a.ring")
    with pytest.raises(RingError, match="not a regular file"):
        RingReader(tmp_path / "a.ring")


def test_a_directory_is_no_ring(tmp_path: Path) -> None:
    """Whatever is called *.ring gets a clear answer."""
    (tmp_path / "a.ring").mkdir()
    with pytest.raises(RingError, match="not a regular file"):
        RingReader(tmp_path / "a.ring")


def test_a_refused_file_is_not_kept_open(tmp_path: Path) -> None:
    """An agent meets the same bad file at every restart of its neighbour."""
    path = tmp_path / "a.ring"
    path.write_bytes(b"\0" * (2 * HEADER_BYTES))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(RingError):
            RingReader(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """A ring that vanished between listing and opening is no damage."""
    with pytest.raises(FileNotFoundError):
        RingReader(tmp_path / "gone.ring")


def test_segments_in_another_order_are_read_where_they_are(tmp_path: Path) -> None:
    """The header decides, and the size that must be there is that of the last byte used."""
    events, details, names = plan((8, 4, 4))
    shifted = events._replace(offset=names.offset + 4 * names.slot_bytes)
    ring = HandMadeRing(tmp_path / "a.ring", (shifted, details, names))
    assert ring.header.file_bytes == shifted.offset + 8 * shifted.slot_bytes
    ring.put(1)
    reader = RingReader(ring.path)
    assert reader.whole()
    reader.close()
