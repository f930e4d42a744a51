"""The consuming end of a ring, in the agent. It maps the file read-only: whatever it
does, the serving process cannot notice. Every byte it reads is untrusted."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pinchpoint.ring.layout import (
    ANCHOR,
    ANCHOR_OFFSET,
    HEADER_BYTES,
    Header,
    RingError,
    unpack_header,
)
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.wire import SEQUENCE, Segment

HOLE_PATIENCE_NS = 250_000_000
"""How long a claimed but unwritten slot may hold up its segment. A thread descheduled
between claim and write was seen to take 43 ms; a thread that died takes for ever."""

LOOK_AHEAD_SLOTS = 64
"""How far to look for a later record before calling an empty slot the head."""

POLL_SLOTS_MAX = 200_000
"""Bound on the records of one poll, so that a runaway writer cannot hold the agent."""


class Loss(NamedTuple):
    """Records that a poll could not read, and why (`overrun` or `hole`)."""

    reason: str
    records: int


class _Cursor:
    """The reading position in one segment."""

    def __init__(self, ring: mmap.mmap, offset: int, slot_bytes: int, slot_count: int) -> None:
        self._ring = ring
        self._offset = offset
        self._slot_bytes = slot_bytes
        self._mask = slot_count - 1
        self._count = slot_count
        self.next = 1
        self._stuck_since_ns = 0

    def _numbers(self, sequence: int) -> tuple[int, int]:
        """First and last sequence number of the slot that `sequence` maps to."""
        start = self._offset + ((sequence - 1) & self._mask) * self._slot_bytes
        (last,) = SEQUENCE.unpack_from(self._ring, start + self._slot_bytes - SEQUENCE.size)
        (first,) = SEQUENCE.unpack_from(self._ring, start)
        return first, last

    def read(self, sequence: int) -> bytes | None:
        """The slot's bytes if it holds exactly this record, whole. End, body, begin."""
        start = self._offset + ((sequence - 1) & self._mask) * self._slot_bytes
        (last,) = SEQUENCE.unpack_from(self._ring, start + self._slot_bytes - SEQUENCE.size)
        if last != sequence:
            return None
        body = self._ring[start : start + self._slot_bytes]
        (first,) = SEQUENCE.unpack_from(self._ring, start)
        return body if first == sequence and SEQUENCE.unpack_from(body)[0] == sequence else None

    def head(self) -> int:
        """The next sequence number that will be written: one scan of the segment."""
        highest = 0
        for sequence in range(1, self._count + 1):
            first, last = self._numbers(sequence)
            if first == last and first > highest and (first - sequence) & self._mask == 0:
                highest = first
        return highest + 1

    def poll(self, now_ns: int, loss: Callable[[Loss], None]) -> Iterator[bytes]:
        """Every whole record from the position on, in order."""
        for _ in range(POLL_SLOTS_MAX):
            slot = self.read(self.next)
            if slot is not None:
                self._stuck_since_ns = 0
                self.next += 1
                yield slot
                continue
            first, last = self._numbers(self.next)
            newest = max(first, last)
            if newest > self.next and (newest - self.next) & self._mask == 0:
                self._skip_overrun(newest, loss)
            elif not self._pass_hole(now_ns, loss):
                return

    def _skip_overrun(self, newest: int, loss: Callable[[Loss], None]) -> None:
        """The writer lapped us: give up the oldest quarter of what is there, too, or it would
        lap us again at once."""
        resume = newest - self._count + self._count // 4
        resume = max(resume, self.next + 1)
        loss(Loss("overrun", resume - self.next))
        self.next = resume
        self._stuck_since_ns = 0

    def _pass_hole(self, now_ns: int, loss: Callable[[Loss], None]) -> bool:
        """Whether an unwritten slot was skipped; False means wait (or nothing to read)."""
        later = any(
            self._numbers(self.next + ahead) == (self.next + ahead,) * 2
            for ahead in range(1, min(LOOK_AHEAD_SLOTS, self._count))
        )
        if not later:
            self._stuck_since_ns = 0
            return False
        if self._stuck_since_ns == 0:
            self._stuck_since_ns = now_ns
        if now_ns - self._stuck_since_ns < HOLE_PATIENCE_NS:
            return False
        loss(Loss("hole", 1))
        self.next += 1
        self._stuck_since_ns = 0
        return True


class RingReader:
    """One attached ring.

    Args:
        path: the ring file.
        from_start: read what is still there instead of attaching at the head (for
            `dump`; an agent's counters start at zero, as after any restart).

    Raises:
        RingError: not a ring of this version.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self.path = path
        # Non-blocking: opening somebody's FIFO would wait for its other end.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise RingError("not a Pinchpoint ring (not a regular file)")
            size = status.st_size
            if size < HEADER_BYTES:
                raise RingError("not a Pinchpoint ring (shorter than its header)")
            self.header: Header = unpack_header(os.pread(self._fd, HEADER_BYTES, 0), size)
            self._map = mmap.mmap(self._fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
        except BaseException:
            os.close(self._fd)
            raise
        self._cursors = [_Cursor(self._map, *segment) for segment in self.header.segments]
        for segment in (Segment.EVENTS, Segment.DETAILS):
            cursor = self._cursors[segment]
            head = cursor.head()
            oldest = max(1, head - self.header.segments[segment].slot_count)
            cursor.next = oldest if from_start else head

    def poll(self, segment: Segment, now_ns: int, loss: Callable[[Loss], None]) -> Iterator[bytes]:
        """The segment's new slots. The name table starts at its beginning."""
        return self._cursors[segment].poll(now_ns, loss)

    def anchor(self) -> Anchor | None:
        """The writer's clocks, or None while it is writing them."""
        end = ANCHOR_OFFSET + ANCHOR.size - SEQUENCE.size
        (last,) = SEQUENCE.unpack_from(self._map, end)
        _, monotonic_ns, wall_ns, _ = ANCHOR.unpack_from(self._map, ANCHOR_OFFSET)
        (first,) = SEQUENCE.unpack_from(self._map, ANCHOR_OFFSET)
        return Anchor(monotonic_ns, wall_ns) if first == last else None

    def writer_alive(self) -> bool:
        """Whether the serving process still holds its lock (works across PID namespaces)."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def whole(self) -> bool:
        """Whether the file still has its size: reading behind its end would be SIGBUS."""
        return os.fstat(self._fd).st_size >= self.header.file_bytes

    def close(self) -> None:
        """Unmap and close."""
        self._map.close()
        os.close(self._fd)
