"""The serving process as the kernel accounts for it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from pinchpoint.samplers.cached_file import CachedFile
from pinchpoint.samplers.source import PROC
from pinchpoint.schema.samples import ProcessSample, Sample

BLOCK_BYTES = 512
"""The unit of `ru_inblock` and `ru_oublock`: getrusage(2)."""

NANOSECONDS = 1_000_000_000

# Positions in /proc/self/stat counted after the command's closing bracket: proc_pid_stat(5).
_STAT_THREADS = 17
_STAT_START = 19


class ProcessSampler:
    """CPU, memory, faults, switches and I/O of this process, all threads together."""

    name = "process"

    def __init__(self, proc: Path = PROC) -> None:
        own = proc / "self"
        self._stat = CachedFile(own / "stat")
        self._statm = CachedFile(own / "statm")
        self._io = CachedFile(own / "io")
        self._descriptors = own / "fd"
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._tick_ns = NANOSECONDS // os.sysconf("SC_CLK_TCK")
        self._start_wall_ns: int | None = None

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """One `ProcessSample`."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        threads = self._threads_and_start()
        read_bytes, written_bytes = self._storage_bytes(usage)
        return (
            ProcessSample(
                now_ns,
                0,
                cpu_user_ns=round(usage.ru_utime * NANOSECONDS),
                cpu_system_ns=round(usage.ru_stime * NANOSECONDS),
                resident_bytes=self._resident_bytes(),
                threads=threads,
                voluntary_switches=usage.ru_nvcsw,
                involuntary_switches=usage.ru_nivcsw,
                minor_faults=usage.ru_minflt,
                major_faults=usage.ru_majflt,
                read_bytes=read_bytes,
                written_bytes=written_bytes,
                start_wall_ns=self._start_wall_ns,
                effective_cpus=_affinity(),
                open_files=self._open_files(),
                open_files_limit=_open_files_limit(),
            ),
        )

    def close(self) -> None:
        """Release the descriptors."""
        for file in (self._stat, self._statm, self._io):
            file.close()

    def _open_files(self) -> int | None:
        """Since Linux 6.2 the directory's size is their number, before that it is 0. To list it
        instead gives up the interpreter lock at every entry: 100 ms and more in a busy server."""
        try:
            return os.stat(self._descriptors).st_size or None
        except OSError:
            return None

    def _resident_bytes(self) -> int | None:
        text = self._statm.read_or_none()
        return None if text is None else int(text.split()[1]) * self._page_bytes

    def _threads_and_start(self) -> int | None:
        text = self._stat.read_or_none()
        if text is None:
            return None
        # The command may hold spaces and brackets: only the last bracket ends it.
        fields = text[text.rindex(")") + 1 :].split()
        if self._start_wall_ns is None:
            started_ns = int(fields[_STAT_START]) * self._tick_ns
            age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started_ns
            self._start_wall_ns = time.time_ns() - age_ns
        return int(fields[_STAT_THREADS])

    def _storage_bytes(self, usage: resource.struct_rusage) -> tuple[int, int]:
        """Bytes that reached storage. /proc/self/io is exact; rusage counts the same in blocks."""
        text = self._io.read_or_none()
        if text is not None:
            values = dict(line.split(": ", 1) for line in text.splitlines())
            if "read_bytes" in values and "write_bytes" in values:
                return int(values["read_bytes"]), int(values["write_bytes"])
        return usage.ru_inblock * BLOCK_BYTES, usage.ru_oublock * BLOCK_BYTES


def _affinity() -> int:
    # Pid 0 would mean the calling thread, which is the sampler's own.
    return len(os.sched_getaffinity(os.getpid()))


def _open_files_limit() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit
