"""Keeps the probe within its share of the server's CPU by sampling less.

The record of every request and the samplers' own second are fixed; what can be had for less
are sampled requests (`recorder.adapt`) and looks at stacks. Both follow one number, `ratio`.
Memory needs no governing, because every table of the probe has a cap.
"""

from __future__ import annotations

import time

from pinchpoint.probe.thread_state import ThreadState

CPU_SHARE = 0.01
"""Of the server's CPU, for the whole probe (issue: below 1 %)."""

CPU_FLOOR_CORES = 0.003
"""Granted to the probe of an idle server too, so that it is still seen."""

RATIO_MIN = 0.12
"""3 of 25 sampled requests a second: a 10 s window still holds the 30 that a quantile claim
needs."""

LOOK_SECONDS = 0.2
LOOK_SECONDS_MAX = 1.0
"""Between two looks at the stacks: at full rate, and at worst."""

RECOVERY_BELOW = 0.7
"""Share of the budget below which more is sampled again."""

RECOVERY_FACTOR = 1.1
"""Growth a second while it recovers: from the least to all in 23 s. 0.7 * 1.1 is well below
1, so that a step up is never followed by a step down."""

DROP_MAX = 0.5
"""The most that is taken away in one second."""

SMOOTHING = 0.5
"""Weight of the last second against all before it: a burst of one second does not count whole,
one of three does."""

CLOCK_READS_PER_DETAIL = 8
"""Boundaries of a request (7), and its record."""

READS_TIMED = 20
_RUNS = 5


class Governor:
    """Decides how much is sampled. Pure: time and CPU come as arguments.

    Attributes:
        ratio: of the full rate of sampling, `RATIO_MIN` to 1.
    """

    def __init__(self) -> None:
        self.ratio = 1.0
        self._used_ns = self._allowed_ns = 0.0

    @property
    def look_seconds(self) -> float:
        """Between two looks at the stacks."""
        return min(LOOK_SECONDS_MAX, LOOK_SECONDS / self.ratio)

    def decide(self, probe_ns: float, process_ns: float, elapsed_ns: float) -> None:
        """Set `ratio` for the next second.

        Args:
            probe_ns: CPU that the probe used since the last decision.
            process_ns: CPU of the whole process meanwhile.
            elapsed_ns: time since then.
        """
        allowed_ns = max(CPU_SHARE * process_ns, CPU_FLOOR_CORES * elapsed_ns)
        self._used_ns += SMOOTHING * (probe_ns - self._used_ns)
        self._allowed_ns += SMOOTHING * (allowed_ns - self._allowed_ns)
        if self._allowed_ns <= 0.0:
            return
        share = self._used_ns / self._allowed_ns
        if share > 1.0:
            self.ratio = max(RATIO_MIN, self.ratio * max(DROP_MAX, 1.0 / share))
        elif share < RECOVERY_BELOW:
            self.ratio = min(1.0, self.ratio * RECOVERY_FACTOR)


class CpuAccount:
    """What the probe has used of the CPU: measured on its own threads, calibrated in its hooks.

    Made in the sampler's thread, where `detail_ns` is calibrated (about 0.2 ms, once).

    Attributes:
        detail_ns: CPU of one sampled request.
        used_ns: all so far.
    """

    def __init__(self) -> None:
        self.detail_ns = CLOCK_READS_PER_DETAIL * _clock_read_ns()
        self.used_ns = 0.0
        self._threads_ns = 0
        self._marks = time.process_time_ns(), time.monotonic_ns()

    def add(self, other_threads_ns: int, details: float) -> tuple[float, int, int]:
        """Charge what has come since the last time.

        Args:
            other_threads_ns: CPU of the probe's threads so far but the calling one's.
            details: requests sampled since the last time.

        Returns:
            CPU of the probe, CPU of the process and time that have passed, in nanoseconds.
        """
        threads_ns = other_threads_ns + time.thread_time_ns()
        probe_ns = threads_ns - self._threads_ns + details * self.detail_ns
        self._threads_ns = threads_ns
        self.used_ns += probe_ns
        marks = time.process_time_ns(), time.monotonic_ns()
        (process_then_ns, then_ns), self._marks = self._marks, marks
        return probe_ns, marks[0] - process_then_ns, marks[1] - then_ns


def _clock_read_ns() -> float:
    """CPU of one reading of a thread's clocks."""
    thread = ThreadState()
    runs = []
    for _ in range(_RUNS):
        begin_ns = time.thread_time_ns()
        for _ in range(READS_TIMED):
            thread.read()
        runs.append((time.thread_time_ns() - begin_ns) / READS_TIMED)
    return sorted(runs)[_RUNS // 2]
