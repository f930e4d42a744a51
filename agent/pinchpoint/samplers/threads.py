"""CPU and run-queue delay of every task, summed by what the task is there for.

Sums are of differences per task, so they stay monotonic when threads end; what a thread used
between its last reading and its end is lost. A task is counted in the class that it has when it
is read; one that ever served a request stays a request thread.

Free-threaded builds: nothing changes here.
"""

from __future__ import annotations

import heapq
import os
import resource
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from pinchpoint.samplers.schedstat import open_schedstat, read_schedstat
from pinchpoint.samplers.source import PROC, Intern, SourceUnavailable
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import BusyThreadSample, Sample, ThreadsSample
from pinchpoint.schema.terms import OTHER

TASKS_MAX = min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
"""Tasks read in one run, 1.5 us and one descriptor each, and those are the server's to give.
Above it only request threads are read, and the other sums have no value until there are fewer
tasks again."""

BUSY_THREADS_MAX = 3
THREAD_NAMES_MAX = 256
"""Distinct names of Python threads; the rest are `_OTHER`."""

GRPC_SERVING_THREAD = "_serve"
"""In the name of the thread that hands RPCs from the gRPC core to the pool."""

_REQUEST, _PYTHON, _NATIVE, _PROBE = range(4)

NO_TASKS = "/proc/self/task cannot be listed; mount /proc in the container"
NO_SCHEDSTAT = (
    "the kernel keeps no times per thread (/proc/self/task/TID/schedstat); "
    "it needs CONFIG_SCHED_INFO and a runtime that shows the file"
)


class ThreadsSampler:
    """`ThreadsSample`, and a `BusyThreadSample` for each of the busiest Python threads.

    Args:
        intern: names the busy threads. Threads of one name are one instance.
        request_thread_ids: native ids of the threads that serve RPCs.
        probe_thread_ids: native ids of our own threads.
        proc: where /proc is.
    """

    name = "threads"

    def __init__(
        self,
        intern: Intern,
        request_thread_ids: Callable[[], Collection[int]],
        probe_thread_ids: Callable[[], Collection[int]],
        proc: Path = PROC,
    ) -> None:
        self._intern = intern
        self._request_thread_ids = request_thread_ids
        self._probe_thread_ids = probe_thread_ids
        self._folder = str(proc / "self" / "task")
        self._tasks: dict[int, _Task] = {}
        self._served: set[int] = set()
        self._cpu_ns = [0, 0, 0, 0]
        self._runqueue_ns = [0, 0, 0, 0]
        self._named_cpu_ns: dict[str, int] = {}

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """The sums so far.

        Raises:
            SourceUnavailable: no tasks are visible, or their times are not.
        """
        alive = self._list()
        self._drop_gone(alive)
        names = _python_threads()
        self._served.update(self._request_thread_ids())
        self._served.intersection_update(alive)
        complete = len(alive) <= TASKS_MAX
        worked = self._read(alive if complete else self._first_request_threads(), names)
        busiest = self._busiest(now_ns, worked) if complete else []
        return (self._sums(now_ns, len(alive), complete), *busiest)

    def close(self) -> None:
        """Release the descriptors; the sums stay."""
        for task in self._tasks.values():
            os.close(task.fd)
        self._tasks.clear()

    def _list(self) -> set[int]:
        try:
            return {int(name) for name in os.listdir(self._folder)}
        except OSError as error:
            raise SourceUnavailable(NO_TASKS) from error

    def _drop_gone(self, alive: Collection[int]) -> None:
        for tid in [tid for tid in self._tasks if tid not in alive]:
            os.close(self._tasks.pop(tid).fd)

    def _first_request_threads(self) -> list[int]:
        return heapq.nsmallest(TASKS_MAX, self._served)

    def _read(self, tids: Iterable[int], names: dict[int, str]) -> dict[str, int]:
        """Add what each task used since it was last read; the Python threads' share by name."""
        probes = self._probe_thread_ids()
        worked: dict[str, int] = {}
        for tid in tids:
            task = self._update(tid)
            if task is None:
                continue
            kind = self._classify(tid, names, probes)
            self._cpu_ns[kind] += task.cpu_delta_ns
            self._runqueue_ns[kind] += task.runqueue_delta_ns
            if kind == _PYTHON and task.cpu_delta_ns > 0:
                name = names[tid]
                worked[name] = worked.get(name, 0) + task.cpu_delta_ns
        return worked

    def _update(self, tid: int) -> _Task | None:
        task = self._tasks.get(tid)
        if task is not None and task.advance():
            return task
        if task is not None:
            # It ended and its number was given to a new thread since the last run.
            os.close(self._tasks.pop(tid).fd)
            self._served.discard(tid)
        return self._open(tid)

    def _open(self, tid: int) -> _Task | None:
        try:
            task = _Task(open_schedstat(f"{self._folder}/{tid}/schedstat"))
        except OSError:
            return None
        self._tasks[tid] = task
        return task if task.advance() else None

    def _classify(self, tid: int, names: dict[int, str], probes: Collection[int]) -> int:
        if tid in probes:
            return _PROBE
        if tid in self._served:
            return _REQUEST
        name = names.get(tid)
        if name is None:
            return _NATIVE
        return _REQUEST if GRPC_SERVING_THREAD in name else _PYTHON

    def _sums(self, now_ns: int, tasks: int, complete: bool) -> ThreadsSample:
        if not complete:
            # The serving thread is among the unread ones, but it hands over only.
            return ThreadsSample(
                now_ns,
                0,
                tasks=tasks,
                request_runqueue_ns=self._runqueue_ns[_REQUEST],
                request_cpu_ns=self._cpu_ns[_REQUEST],
            )
        if not any(task.slices for task in self._tasks.values()):
            raise SourceUnavailable(NO_SCHEDSTAT)
        return ThreadsSample(
            now_ns,
            0,
            tasks=tasks,
            runqueue_ns=sum(self._runqueue_ns),
            request_runqueue_ns=self._runqueue_ns[_REQUEST],
            request_cpu_ns=self._cpu_ns[_REQUEST],
            python_cpu_ns=self._cpu_ns[_PYTHON],
            native_cpu_ns=self._cpu_ns[_NATIVE],
            probe_cpu_ns=self._cpu_ns[_PROBE],
        )

    def _busiest(self, now_ns: int, worked: dict[str, int]) -> list[Sample]:
        since_last: dict[str, int] = {}
        for name, cpu_ns in worked.items():
            label = self._label(name)
            self._named_cpu_ns[label] = self._named_cpu_ns.get(label, 0) + cpu_ns
            since_last[label] = since_last.get(label, 0) + cpu_ns
        top = heapq.nlargest(BUSY_THREADS_MAX, since_last, key=since_last.__getitem__)
        return [
            BusyThreadSample(
                now_ns, self._intern(NameKind.THREAD, label), cpu_ns=self._named_cpu_ns[label]
            )
            for label in top
        ]

    def _label(self, name: str) -> str:
        known = name in self._named_cpu_ns or len(self._named_cpu_ns) < THREAD_NAMES_MAX
        return name if known else OTHER


class _Task:
    """One task's descriptor and what it used between the last two readings."""

    __slots__ = ("_cpu_ns", "_runqueue_ns", "cpu_delta_ns", "fd", "runqueue_delta_ns", "slices")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.slices = 0
        self.cpu_delta_ns = 0
        self.runqueue_delta_ns = 0
        self._cpu_ns = 0
        self._runqueue_ns = 0

    def advance(self) -> bool:
        """Read again; False if the task is gone."""
        try:
            times = read_schedstat(self.fd)
        except (OSError, ValueError):
            return False
        self.cpu_delta_ns = max(0, times.cpu_ns - self._cpu_ns)
        self.runqueue_delta_ns = max(0, times.runqueue_ns - self._runqueue_ns)
        self._cpu_ns, self._runqueue_ns, self.slices = times
        return True


def _python_threads() -> dict[int, str]:
    """Names by native id of the threads that the interpreter knows, and are running."""
    return {t.native_id: t.name for t in threading.enumerate() if t.native_id is not None}
