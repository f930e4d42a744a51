"""One attached ring as observations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pinchpoint.ring.layout import RingError
from pinchpoint.ring.reader import HOLE_PATIENCE_NS, Loss, RingReader
from pinchpoint.schema.clock import Anchor, offset_ns
from pinchpoint.schema.frames import SEGMENT_KIND, Control, Frame, control_frame
from pinchpoint.schema.observations import (
    Observation,
    Record,
    RecordsLost,
    SourceClosed,
    SourceOpened,
)
from pinchpoint.schema.wire import (
    InvalidRecordError,
    Segment,
    unpack_detail,
    unpack_event,
    unpack_name,
)

DRAIN_POLLS_MAX = 64
"""Polls to reach the end of a ring: each unwritten slot costs one or two, and a writer that is
alive can be faster than the reader."""

OFFSET_NS_MAX = 1 << 62
"""A clock offset of 146 years is not one."""

_UNPACK: dict[Segment, Callable[[bytes], Record]] = {
    Segment.EVENTS: unpack_event,
    Segment.DETAILS: unpack_detail,
    Segment.NAMES: unpack_name,
}


class Arrival(NamedTuple):
    """An observation, and the same as a frame of a recording."""

    observation: Observation
    frame: Frame


def made_here(source: int, record: Control) -> Arrival:
    """A record that the agent made."""
    return Arrival(Observation(source, record), control_frame(source, record))


class RingSource:
    """One attached ring.

    Args:
        number: what its observations carry as their source.
        path: the ring file.
        from_start: read what is already there; otherwise begin at the head.

    Raises:
        RingError: not a ring of this version.
        OSError: it cannot be opened.
    """

    def __init__(self, number: int, path: Path, *, from_start: bool) -> None:
        self.number = number
        self.path = path
        self._reader = RingReader(path, from_start=from_start)

    def opened(self, now: Anchor) -> Arrival:
        """The first observation.

        Raises:
            RingError: the writer's clocks are impossible.
        """
        header = self._reader.header
        # While the writer is at it, the pair from its start will do.
        written = self._reader.anchor() or Anchor(header.start_monotonic_ns, header.start_wall_ns)
        offset = offset_ns(written, now)
        if abs(offset) > OFFSET_NS_MAX:
            raise RingError("ring header is damaged (its clocks are impossible)")
        return self._made(SourceOpened(now.monotonic_ns, header.process_id, offset))

    def poll(self, now_ns: int) -> Iterator[Arrival]:
        """What is new: names first, because the other records refer to them.

        Raises:
            RingError: the file was cut short.
        """
        if not self._reader.whole():
            raise RingError("the ring file was cut short")
        losses: list[Loss] = []
        # Names are read last and handed on first: a record that has been read has its name in
        # the table by then.
        slots = {
            segment: self._reader.poll(segment, now_ns, losses.append)
            for segment in (Segment.DETAILS, Segment.EVENTS, Segment.NAMES)
        }
        invalid = 0
        for segment in (Segment.NAMES, Segment.DETAILS, Segment.EVENTS):
            unpack, kind = _UNPACK[segment], SEGMENT_KIND[segment]
            for slot in slots.pop(segment):
                try:
                    record = unpack(slot)
                except InvalidRecordError:
                    invalid += 1
                    continue
                yield Arrival(Observation(self.number, record), Frame(kind, self.number, slot))
        if invalid:
            losses.append(Loss("invalid", invalid))
        for loss in losses:
            yield self._made(RecordsLost(now_ns, loss.reason, loss.records))

    def drain(self, now_ns: int) -> Iterator[Arrival]:
        """Everything up to the end, unwritten slots given up. Two empty polls are the end.

        Raises:
            RingError: as `poll`.
        """
        empty = 0
        for _ in range(DRAIN_POLLS_MAX):
            arrived = False
            for arrival in self.poll(now_ns):
                arrived = True
                yield arrival
            empty = 0 if arrived else empty + 1
            if empty == 2:
                return
            now_ns += HOLE_PATIENCE_NS

    def closed(self, now_ns: int) -> Arrival:
        """The last observation."""
        return self._made(SourceClosed(now_ns))

    def writer_alive(self) -> bool:
        """Whether the serving process still runs."""
        return self._reader.writer_alive()

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def _made(self, record: Control) -> Arrival:
        return made_here(self.number, record)
