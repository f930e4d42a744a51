"""How late the timers of event loops run: whatever blocks a loop delays all of its requests.

One timer a loop, ten times a second, its pace varied so that it does not fall into step with
other timers. A beat is counted once, when it comes: while a loop is blocked its counters stand.
The loop holds the timer and nothing holds the loop: it ends, and is closed, as it would be.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from time import monotonic_ns
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from pinchpoint.probe.guard import Part
from pinchpoint.samplers.source import Intern
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import LoopSample
from pinchpoint.schema.terms import GAP_BOUNDS_NS, OTHER

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

BEAT_SECONDS = 0.1
JITTER_RATIO = 0.1
_GOLDEN_RATIO = 0.618033988749895
"""Multiples of it, modulo 1, are spread evenly and never repeat."""

LOOPS_MAX = 16
"""Loops told apart by the names of their threads; more are counted as one, `_OTHER`."""


class _Counts:
    """What the loops of one name have shown so far."""

    __slots__ = ("beats", "lag_ns", "lags")

    def __init__(self) -> None:
        self.beats = self.lag_ns = 0
        self.lags = [0] * (len(GAP_BOUNDS_NS) + 1)


class LoopWatch:
    """The timer of one loop.

    Attributes:
        thread: identity of the loop's thread: the interpreter's and the kernel's; None until it
            has run.
    """

    def __init__(self, lag: LoopLag, loop: AbstractEventLoop) -> None:
        self.thread: tuple[int, int] | None = None
        self._lag = lag
        self._loop = ref(loop)
        self._counts: _Counts | None = None
        self._due_ns = 0
        self._turn = 0.0

    def begin(self) -> None:
        """On the loop: take its thread's name and set the first timer."""
        if not self._lag.part.errors:
            try:
                self.thread = threading.get_ident(), threading.get_native_id()
                self._counts = self._lag.counts_of(threading.current_thread().name)
                self._set()
            except Exception as error:
                self._lag.part.trip(error)

    def _set(self) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed() or not self._lag.watches(loop, self):
            return
        self._turn = (self._turn + _GOLDEN_RATIO) % 1.0
        delay_seconds = BEAT_SECONDS * (1 + JITTER_RATIO * (2 * self._turn - 1))
        self._due_ns = monotonic_ns() + round(delay_seconds * 1e9)
        loop.call_later(delay_seconds, self._beat)

    def _beat(self) -> None:
        part = self._lag.part
        if not part.errors:  # while it is only switched off, the timer goes on uncounted
            try:
                if part.enabled:
                    self._count(max(0, monotonic_ns() - self._due_ns))
                self._set()
            except Exception as error:
                part.trip(error)

    def _count(self, late_ns: int) -> None:
        counts = self._counts
        if counts is not None:
            counts.beats += 1
            counts.lag_ns += late_ns
            counts.lags[bisect_left(GAP_BOUNDS_NS, late_ns)] += 1


class LoopLag:
    """Every event loop of this process that serves.

    Args:
        part: the guard's part.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self._watches: WeakKeyDictionary[AbstractEventLoop, LoopWatch] = WeakKeyDictionary()
        self._counts: dict[str, _Counts] = {}
        self._intern: Intern | None = None

    def start(self, intern: Intern) -> None:
        """There is a ring; `intern` names the loops in it."""
        self._intern = intern

    def watch(self, loop: AbstractEventLoop) -> None:
        """Set the loop's timer, if it has none. From any thread."""
        if loop in self._watches or not self.part.enabled:
            return
        try:
            watch = self._watches[loop] = LoopWatch(self, loop)
            loop.call_soon_threadsafe(watch.begin)
        except Exception as error:
            self.part.trip(error)

    def watches(self, loop: AbstractEventLoop, watch: LoopWatch) -> bool:
        """Whether that is the loop's timer still."""
        return self._watches.get(loop) is watch

    def threads(self) -> list[tuple[int, int]]:
        """The threads of the living loops: their identity in the interpreter and the kernel."""
        return [
            watch.thread
            for loop, watch in list(self._watches.items())
            if watch.thread is not None and not loop.is_closed()
        ]

    def counts_of(self, name: str) -> _Counts:
        """The counters of that name. They outlive the loop, so that its successor counts on."""
        if name not in self._counts and len(self._counts) >= LOOPS_MAX:
            name = OTHER
        return self._counts.setdefault(name, _Counts())

    def samples(self, now_ns: int) -> list[LoopSample]:
        """The counters of every loop so far."""
        if self._intern is None:
            return []
        return [
            LoopSample(
                now_ns,
                self._intern(NameKind.OTHER, name),
                counts.beats,
                counts.lag_ns,
                *counts.lags,
            )
            for name, counts in list(self._counts.items())
        ]

    def forget(self) -> None:
        """After a fork, or when the probe is taken out: timers that run still set no other."""
        self._watches.clear()
        self._counts.clear()
        self._intern = None
