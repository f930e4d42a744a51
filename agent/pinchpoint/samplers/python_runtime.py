"""The interpreter: waits for its lock, seen by a heartbeat, and pauses of the collector.

A thread that only sleeps wakes on time unless it has to wait for a CPU or for the interpreter
lock. The first is known per thread (schedstat); what is left is the second. Collections and page
faults of whoever holds the lock are part of it, and are told apart by their own counters.

Free-threaded builds: `gil_enabled` is 0 and late beats tell of stop-the-world pauses only.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from pinchpoint.samplers.schedstat import open_schedstat, read_schedstat
from pinchpoint.schema.samples import LATE_BEAT_NS, GcSample, PythonSample, Sample
from pinchpoint.schema.terms import GAP_BOUNDS_NS

BEAT_PERIOD_NS = 100_000_000
"""10 Hz: on two threads bound by the lock 100 Hz costs as little (1.6 %), 200 Hz costs 8 %."""

JITTER_NS = 10_000_000
"""Spread of the deadlines, so that beats do not run in step with periodic work."""

_GOLDEN_RATIO = 0.618033988749895
OWN_SCHEDSTAT = "/proc/thread-self/schedstat"
NANOSECONDS = 1_000_000_000


class Heartbeat:
    """How late a sleeping thread wakes, its own wait for a CPU taken off.

    `late_beats` and `gil_wait_ns` are None where that wait cannot be read: lateness alone would
    charge a busy machine to the interpreter lock.
    """

    def __init__(self) -> None:
        self.beats = 0
        self._late_beats = 0
        self._gil_wait_ns = 0
        self._net = False

    @property
    def late_beats(self) -> int | None:
        """Beats more than `LATE_BEAT_NS` late, net."""
        return self._late_beats if self._net else None

    @property
    def gil_wait_ns(self) -> int | None:
        """Sum of the net lateness of late beats, nanoseconds."""
        return self._gil_wait_ns if self._net else None

    def beat(self, expected_ns: int, woke_ns: int, own_runqueue_delta_ns: int | None) -> None:
        """Account for one beat.

        Args:
            expected_ns: the deadline, CLOCK_MONOTONIC.
            woke_ns: when the thread ran again.
            own_runqueue_delta_ns: how long it was runnable without a CPU meanwhile, or None
                where that is unknown.
        """
        self.beats += 1
        if own_runqueue_delta_ns is None:
            return
        self._net = True
        net_ns = max(0, woke_ns - expected_ns - own_runqueue_delta_ns)
        if net_ns > LATE_BEAT_NS:
            self._late_beats += 1
            self._gil_wait_ns += net_ns

    def run(self, stop: Callable[[], bool], schedstat: str = OWN_SCHEDSTAT) -> None:
        """Beat in the calling thread until `stop()`, which is asked at every beat.

        Args:
            stop: True when the thread is to end.
            schedstat: the calling thread's file.
        """
        runqueue = _OwnRunqueue(schedstat)
        try:
            self._loop(stop, runqueue)
        finally:
            runqueue.close()

    def _loop(self, stop: Callable[[], bool], runqueue: _OwnRunqueue) -> None:
        deadline_ns = time.monotonic_ns()
        while not stop():
            deadline_ns = next_deadline(deadline_ns, self.beats, time.monotonic_ns())
            before_ns = runqueue.read()
            time.sleep(max(0, deadline_ns - time.monotonic_ns()) / NANOSECONDS)
            woke_ns = time.monotonic_ns()
            after_ns = runqueue.read()
            known = before_ns is not None and after_ns is not None
            delta_ns = after_ns - before_ns if known else None  # type: ignore[operator]
            self.beat(deadline_ns, woke_ns, delta_ns)


def next_deadline(deadline_ns: int, beats: int, now_ns: int) -> int:
    """The deadline after `deadline_ns`, jittered; deadlines already missed are left out."""
    jitter_ns = int((beats * _GOLDEN_RATIO % 1 - 0.5) * JITTER_NS)
    following_ns = deadline_ns + BEAT_PERIOD_NS + jitter_ns
    return following_ns if following_ns > now_ns else now_ns + BEAT_PERIOD_NS + jitter_ns


class _OwnRunqueue:
    """The calling thread's run-queue delay through one descriptor; None where unknown."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = open_schedstat(path)
        except OSError:
            self._fd = -1

    def read(self) -> int | None:
        if self._fd < 0:
            return None
        try:
            times = read_schedstat(self._fd)
        except (OSError, ValueError):
            return None
        return times.runqueue_ns if times.slices else None

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class GcWatch:
    """Time that the cyclic collector held the interpreter.

    `pause_ns`, `collections` and `pauses`, counted by `terms.GAP_BOUNDS_NS`, are plain
    attributes that any thread may read.
    """

    def __init__(self) -> None:
        self.pause_ns = 0
        self.collections = 0
        self.pauses = [0] * (len(GAP_BOUNDS_NS) + 1)
        self._started_ns = 0

    def install(self) -> None:
        """Start watching; idempotent."""
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def uninstall(self) -> None:
        """Stop watching; idempotent."""
        try:
            gc.callbacks.remove(self._on_collection)
        except ValueError:
            pass
        self._started_ns = 0

    def _on_collection(
        self,
        phase: str,
        _info: dict[str, int],
        _now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        # Runs in whichever thread collects, hundreds of times a second in busy servers.
        if phase == "start":
            self._started_ns = _now()
        elif self._started_ns:
            pause_ns = _now() - self._started_ns
            self.pause_ns += pause_ns
            self.pauses[bisect_left(GAP_BOUNDS_NS, pause_ns)] += 1
            self.collections += 1
            self._started_ns = 0


class PythonSampler:
    """`PythonSample` and `GcSample` from a heartbeat and a collector watch that others run."""

    name = "python"

    def __init__(self, heartbeat: Heartbeat, gc_watch: GcWatch) -> None:
        self._heartbeat = heartbeat
        self._gc_watch = gc_watch

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """One of each."""
        return (
            PythonSample(
                now_ns,
                0,
                gil_enabled=_gil_enabled(),
                beats=self._heartbeat.beats,
                late_beats=self._heartbeat.late_beats,
                gil_wait_ns=self._heartbeat.gil_wait_ns,
                gc_collections=self._gc_watch.collections,
                gc_pause_ns=self._gc_watch.pause_ns,
            ),
            GcSample(now_ns, 0, self._gc_watch.pause_ns, *self._gc_watch.pauses),
        )


def _gil_enabled() -> int:
    ask = getattr(sys, "_is_gil_enabled", None)
    return 1 if ask is None else int(ask())
