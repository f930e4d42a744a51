"""The consuming end of a ring, in the agent. It maps the file read-only: whatever it
does, the serving process cannot notice. Every byte it reads is untrusted."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from collections.abc import Callable
from itertools import compress, count
from operator import ne
from pathlib import Path
from typing import NamedTuple

from pinchpoint.ring.layout import (
    ANCHOR,
    ANCHOR_OFFSET,
    HEADER_BYTES,
    Header,
    RingError,
    SegmentLayout,
    unpack_header,
)
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.wire import SEQUENCE, Segment

HOLE_PATIENCE_NS = 250_000_000
"""How long a claimed but unwritten slot may hold up its segment. A thread descheduled
between claim and write was seen to take 43 ms; a thread that died takes for ever."""

LOOK_AHEAD_SLOTS = 64
"""How far to look for a later record before calling an empty slot the head."""

BATCH_SLOTS = 1024
"""Slots copied at once. A writer that laps the reader meanwhile spoils what is left of them."""

POLL_SLOTS_MAX = 200_000
"""Bound on the records of one poll, so that a runaway writer cannot hold the agent."""


class Loss(NamedTuple):
    """Records that a poll could not read, and why (`overrun` or `hole`)."""

    reason: str
    records: int


class _Cursor:
    """The reading position in one segment."""

    def __init__(self, ring: memoryview, layout: SegmentLayout) -> None:
        offset, self._slot_bytes, self._count = layout
        self._mask = self._count - 1
        self._slots = ring[offset : offset + self._count * self._slot_bytes]
        words = _words(self._slots)
        self._stride = self._slot_bytes // SEQUENCE.size
        self._firsts = words[:: self._stride]
        self._lasts = words[self._stride - 1 :: self._stride]
        self.next = 1
        self._stuck_since_ns = 0

    def close(self) -> None:
        """Let go of the mapping."""
        for view in (self._firsts, self._lasts, self._slots):
            view.release()

    def head(self) -> int:
        """The next sequence number that will be written: one scan of the segment."""
        highest = 0
        numbers = zip(self._lasts.tolist(), self._firsts.tolist(), strict=True)
        for sequence, (last, first) in enumerate(numbers, 1):
            if first == last and first > highest and (first - sequence) & self._mask == 0:
                highest = first
        return highest + 1

    def poll(self, now_ns: int, loss: Callable[[Loss], None]) -> list[bytes]:
        """Every whole record from the position on, in order."""
        slots: list[bytes] = []
        left = POLL_SLOTS_MAX
        while left > 0:
            batch = self._read(left)
            left -= max(1, len(batch))
            if batch:
                self._stuck_since_ns = 0
                self.next += len(batch)
                slots += batch
                continue
            newest = max(self._numbers(self.next))
            if newest > self.next and (newest - self.next) & self._mask == 0:
                self._skip_overrun(newest, loss)
            elif not self._pass_hole(now_ns, loss):
                break
        return slots

    def _numbers(self, sequence: int) -> tuple[int, int]:
        """Last and first sequence number of the slot that `sequence` maps to."""
        index = (sequence - 1) & self._mask
        last = self._lasts[index]
        return last, self._firsts[index]

    def _read(self, most: int) -> list[bytes]:
        """The whole records at the position that lie side by side. Of each slot the end is read
        before the body and the beginning after it."""
        begin = (self.next - 1) & self._mask
        if self._lasts[begin] != self.next:
            return []
        slots = min(most, BATCH_SLOTS, self._count - begin)
        expected = range(self.next, self.next + slots)
        slots = _agreeing(self._lasts[begin : begin + slots], expected)
        size = self._slot_bytes
        body = self._slots[begin * size : (begin + slots) * size].tobytes()
        slots = min(
            _agreeing(self._firsts[begin : begin + slots], expected),
            _agreeing(_words(memoryview(body))[:: self._stride], expected),
        )
        return [body[at : at + size] for at in range(0, slots * size, size)]

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
        ahead = range(self.next + 1, self.next + min(LOOK_AHEAD_SLOTS, self._count))
        lasts, mask = self._lasts, self._mask
        ended = [sequence for sequence in ahead if lasts[(sequence - 1) & mask] == sequence]
        if not any(self._numbers(sequence) == (sequence, sequence) for sequence in ended):
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


assert SEQUENCE.format == "@Q"


def _words(slots: memoryview) -> memoryview:
    """Slots as the words that their sequence numbers are (`wire.SEQUENCE`)."""
    return slots.cast("@Q")


def _agreeing(found: memoryview, expected: range) -> int:
    """How many numbers are the expected ones, up to the first that is not."""
    numbers = found.tolist()
    return next(compress(count(), map(ne, numbers, expected)), len(numbers))


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
        with memoryview(self._map) as ring:
            self._cursors = [_Cursor(ring, segment) for segment in self.header.segments]
        for segment in (Segment.EVENTS, Segment.DETAILS):
            cursor = self._cursors[segment]
            head = cursor.head()
            oldest = max(1, head - self.header.segments[segment].slot_count)
            cursor.next = oldest if from_start else head

    def poll(self, segment: Segment, now_ns: int, loss: Callable[[Loss], None]) -> list[bytes]:
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
        for cursor in self._cursors:
            cursor.close()
        self._map.close()
        os.close(self._fd)
