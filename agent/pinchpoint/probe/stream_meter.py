"""What goes through one stream: messages either way, time to the first, gaps between them.

Gaps are counted where they happen, so a message costs a clock and a bisection; a record is
written at the stream's end and once a second, so that a stream of hours is seen while it runs.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from operator import sub
from time import monotonic_ns
from typing import TYPE_CHECKING

from pinchpoint.schema.events import StreamEvent
from pinchpoint.schema.terms import GAP_BOUNDS_NS

if TYPE_CHECKING:
    from pinchpoint.probe.recorder import Recorder

FLUSH_NS = 1_000_000_000
_GAP_COUNTS = len(GAP_BOUNDS_NS) + 1


class StreamMeter:
    """Counts the messages of one stream. `received` and `sent` are called by one thread each.

    Args:
        recorder: where the records go.
        method_id: of the stream.
        call_type: index in `terms.CALL_TYPES`.
        arrival_ns: when the request came.
    """

    __slots__ = (
        "_arrival_ns",
        "_call_type",
        "_first_message_ns",
        "_flush_due_ns",
        "_flushing",
        "_gap_ns",
        "_gaps",
        "_last_ns",
        "_method_id",
        "_received",
        "_recorder",
        "_sent",
        "_written",
    )

    def __init__(self, recorder: Recorder, method_id: int, call_type: int, arrival_ns: int) -> None:
        self._recorder = recorder
        self._method_id = method_id
        self._call_type = call_type
        self._arrival_ns = arrival_ns
        self._flush_due_ns = arrival_ns + FLUSH_NS
        self._flushing = threading.Lock()
        # Totals: each has one writer, so that none needs a lock. Records carry differences.
        self._last_ns = self._received = self._sent = 0
        self._first_message_ns = self._gap_ns = 0
        self._gaps = [0] * _GAP_COUNTS
        self._written = (0,) * (4 + _GAP_COUNTS)

    def received(self) -> None:
        """A request message has come."""
        self._received += 1
        now_ns = monotonic_ns()
        if now_ns >= self._flush_due_ns:
            self._flush(now_ns)

    def sent(self) -> None:
        """A response message is on its way."""
        now_ns = monotonic_ns()
        if self._sent:
            gap_ns = now_ns - self._last_ns
            self._gap_ns += gap_ns
            self._gaps[bisect_left(GAP_BOUNDS_NS, gap_ns)] += 1
        else:
            self._first_message_ns = now_ns - self._arrival_ns
        self._sent += 1
        self._last_ns = now_ns
        if now_ns >= self._flush_due_ns:
            self._flush(now_ns)

    def finish(self) -> None:
        """The stream is over."""
        if self._received or self._sent:
            self._flush(monotonic_ns(), wait=True)

    def _flush(self, now_ns: int, *, wait: bool = False) -> None:
        if not self._flushing.acquire(blocking=wait):
            return
        try:
            self._flush_due_ns = now_ns + FLUSH_NS
            total = (
                self._received,
                self._sent,
                self._first_message_ns,
                self._gap_ns,
                *self._gaps,
            )
            received, sent, first_message_ns, gap_ns, *gaps = map(sub, total, self._written)
            self._written = total
            if received or sent:
                self._recorder.stream(
                    StreamEvent(
                        self._call_type,
                        self._method_id,
                        received,
                        sent,
                        now_ns,
                        first_message_ns,
                        gap_ns,
                        tuple(gaps),
                    )
                )
        finally:
            self._flushing.release()
