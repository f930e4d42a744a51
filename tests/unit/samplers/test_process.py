from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from pinchpoint.samplers.process import ProcessSampler
from pinchpoint.schema.samples import ProcessSample
from tests.unit.samplers.support import only, write

# A command with a space and a bracket in it; 37 threads; started 250 ticks after boot.
STAT = "7 (my (odd) srv) S 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 37 0 250 1000 10\n"


def sample(sampler: ProcessSampler, now_ns: int = 5) -> ProcessSample:
    return only(sampler.sample(now_ns), ProcessSample)


def test_the_real_process_has_every_field() -> None:
    sampler = ProcessSampler()
    reading = sample(sampler)
    sampler.close()
    assert reading.time_ns == 5
    for name in ("resident_bytes", "threads", "read_bytes", "written_bytes", "minor_faults"):
        assert getattr(reading, name) is not None, name
    assert reading.effective_cpus == len(os.sched_getaffinity(os.getpid()))
    assert reading.start_wall_ns is not None
    assert 0 < reading.start_wall_ns <= time.time_ns()


def test_cpu_time_is_that_of_all_threads_and_never_falls() -> None:
    sampler = ProcessSampler()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    first, second = sample(sampler), sample(sampler)
    sampler.close()
    assert first.cpu_user_ns is not None
    assert second.cpu_user_ns is not None
    assert before * 1e9 - 1 <= first.cpu_user_ns <= second.cpu_user_ns


def test_the_start_is_read_once_and_stays(tmp_path: Path) -> None:
    write(tmp_path, {"self/stat": STAT})
    sampler = ProcessSampler(tmp_path)
    first, second = sample(sampler), sample(sampler)
    assert first.threads == 37
    assert first.start_wall_ns == second.start_wall_ns


def test_io_comes_from_proc_where_readable(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "self/io": "rchar: 9\nwchar: 9\nread_bytes: 4096\nwrite_bytes: 512\n",
            "self/statm": "100 25 3 1 0 9 0\n",
        },
    )
    reading = sample(ProcessSampler(tmp_path))
    assert (reading.read_bytes, reading.written_bytes) == (4096, 512)
    assert reading.resident_bytes == 25 * os.sysconf("SC_PAGE_SIZE")


def test_without_proc_what_the_system_call_says_remains(tmp_path: Path) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    reading = sample(ProcessSampler(tmp_path))
    assert reading.resident_bytes is None
    assert reading.threads is None
    assert reading.start_wall_ns is None
    assert reading.read_bytes is not None
    assert reading.read_bytes >= usage.ru_inblock * 512
    assert reading.cpu_user_ns is not None


def test_open_files_are_those_of_the_process() -> None:
    sampler = ProcessSampler()
    before = sample(sampler)
    with Path("/dev/null").open("rb"):
        after = sample(sampler)
    sampler.close()
    assert before.open_files is not None
    assert after.open_files == before.open_files + 1
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert after.open_files_limit == (None if limit == resource.RLIM_INFINITY else limit)
