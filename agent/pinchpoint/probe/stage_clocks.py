"""The clocks of one sampled request: wall, on-CPU and run-queue time of each stage.

Read at every boundary on the thread that crosses it. Where two boundaries lie on different
threads, CPU and run-queue time between them are nobody's and stay out: only wall time is known.
A coroutine is on its thread only while it is being stepped: `suspend` and `resume` leave out
what the thread does for others meanwhile.
"""

from __future__ import annotations

from resource import RUSAGE_THREAD, getrusage
from time import monotonic_ns, thread_time_ns

from pinchpoint.probe.thread_state import ThreadState, current
from pinchpoint.schema.terms import STAGE_INDEX
from pinchpoint.schema.wire import STAGE_COUNT

_QUEUE = STAGE_INDEX["queue"]

NOT_RUNNING_NS = 20_000
"""A stage whose thread was off its CPU for less is not asked why: the scheduler's own account of
the thread costs as much as both other clocks and gives up the interpreter lock. What it would have
said is charged to a later stage of the request."""


class StageClocks:
    """Splits a request's time by stage.

    Args:
        thread: the calling thread's state.
        queue_ns: how long the request waited before this.
        gc_ns: the collector's pauses so far.

    Attributes:
        times: wall, CPU, run-queue of every stage of `terms.STAGES`, in nanoseconds.
    """

    __slots__ = (
        "_cpu_ns",
        "_runqueue_ns",
        "_stage",
        "_switches",
        "_thread",
        "_wall_ns",
        "gc_ns",
        "times",
    )

    def __init__(self, thread: ThreadState, stage: int, queue_ns: int, gc_ns: int) -> None:
        self.times = [0] * (STAGE_COUNT * 3)
        self.times[_QUEUE * 3] = queue_ns
        self.gc_ns = gc_ns
        self._stage = stage
        usage = getrusage(RUSAGE_THREAD)
        self._switches = usage.ru_nvcsw, usage.ru_nivcsw
        self._thread: ThreadState | None = thread
        self._wall_ns, self._cpu_ns, self._runqueue_ns = thread.read()

    def enter(self, stage: int) -> None:
        """Charge the time since the last boundary and begin `stage`."""
        self._charge(current())
        self._stage = stage

    def suspend(self) -> None:
        """The coroutine gives its thread back."""
        self._charge(current())
        self._thread = None

    def resume(self) -> None:
        """The coroutine is being stepped again, perhaps on another thread."""
        self._charge(current())

    def _charge(self, thread: ThreadState) -> None:
        wall_ns, cpu_ns = monotonic_ns(), thread_time_ns()
        times, at = self.times, self._stage * 3
        passed_ns = wall_ns - self._wall_ns
        times[at] += passed_ns
        if thread is not self._thread:
            self._thread = thread
            self._runqueue_ns = thread.runqueue_ns()
        else:
            ran_ns = cpu_ns - self._cpu_ns
            times[at + 1] += ran_ns
            if passed_ns - ran_ns > NOT_RUNNING_NS:
                runqueue_ns = thread.runqueue_ns()
                times[at + 2] += runqueue_ns - self._runqueue_ns
                self._runqueue_ns = runqueue_ns
        self._wall_ns, self._cpu_ns = wall_ns, cpu_ns

    def switches(self) -> tuple[int, int]:
        """Voluntary and involuntary context switches of the thread since the start."""
        usage = getrusage(RUSAGE_THREAD)
        voluntary, involuntary = self._switches
        return max(0, usage.ru_nvcsw - voluntary), max(0, usage.ru_nivcsw - involuntary)

    def move(self, source: int, target: int) -> None:
        """Give a stage's times to another."""
        times = self.times
        for index in range(3):
            times[target * 3 + index] += times[source * 3 + index]
            times[source * 3 + index] = 0

    def blocked_ns(self, stage: int) -> int:
        """Time of a stage neither on a CPU nor waiting for one."""
        wall_ns, cpu_ns, runqueue_ns = self.times[stage * 3 : stage * 3 + 3]
        return max(0, wall_ns - cpu_ns - runqueue_ns)

    def move_blocked(self, source: int, target: int, wall_ns: int) -> None:
        """Give part of a stage's blocked time to another, at most all of it."""
        moved_ns = min(wall_ns, self.blocked_ns(source))
        self.times[source * 3] -= moved_ns
        self.times[target * 3] += moved_ns

    def move_busy(self, source: int, target: int, wall_ns: int) -> int:
        """Give part of a stage's CPU time to another; returns how much it was."""
        moved_ns = min(wall_ns, self.times[source * 3 + 1])
        for index in range(2):
            self.times[source * 3 + index] -= moved_ns
            self.times[target * 3 + index] += moved_ns
        return moved_ns
