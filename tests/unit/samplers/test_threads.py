from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pinchpoint.samplers.source import SourceUnavailable
from pinchpoint.samplers.threads import TASKS_MAX, ThreadsSampler
from pinchpoint.schema.samples import BusyThreadSample, ThreadsSample
from tests.unit.samplers.support import Names, only, until, write


def nobody() -> Collection[int]:
    return ()


def make(
    names: Names | None = None,
    request: Callable[[], Collection[int]] = nobody,
    probe: Callable[[], Collection[int]] = nobody,
    proc: Path = Path("/proc"),
) -> ThreadsSampler:
    return ThreadsSampler(names or Names(), request, probe, proc)


def take(sampler: ThreadsSampler) -> ThreadsSample:
    return only(sampler.sample(0), ThreadsSample)


def number(value: float | None) -> float:
    assert value is not None
    return value


@contextmanager
def spinning(name: str) -> Iterator[threading.Thread]:
    stop, started = threading.Event(), threading.Event()

    def spin() -> None:
        started.set()
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin, name=name)
    thread.start()
    started.wait()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()


def native_id(thread: threading.Thread) -> int:
    assert thread.native_id is not None
    return thread.native_id


def test_a_spinning_thread_is_python_cpu_and_is_named() -> None:
    names = Names()
    sampler = make(names)
    start = number(take(sampler).python_cpu_ns)

    def seen() -> bool:
        samples = sampler.sample(0)
        busy = [s for s in samples if isinstance(s, BusyThreadSample)]
        grown = number(only(samples, ThreadsSample).python_cpu_ns) - start > 20_000_000
        return grown and "hog" in {names.text(s.instance) for s in busy}

    with spinning("hog"):
        assert until(seen)
    sampler.close()


def test_a_request_thread_stays_one_after_its_request() -> None:
    serving: set[int] = set()
    sampler = make(request=lambda: serving)
    with spinning("pool-0") as thread:
        serving.add(native_id(thread))
        take(sampler)
        serving.clear()
        before = number(take(sampler).request_cpu_ns)
        assert until(lambda: number(take(sampler).request_cpu_ns) > before + 10_000_000)
    sampler.close()


def test_a_request_thread_is_never_among_the_busy_ones() -> None:
    names = Names()
    with spinning("pool-0") as thread:
        sampler = make(names, request=lambda: [native_id(thread)])
        assert until(lambda: number(take(sampler).request_cpu_ns) > 10_000_000)
    sampler.close()
    assert "pool-0" not in {text for _, text in names.ids}


def test_our_own_threads_are_the_probe() -> None:
    with spinning("ours") as thread:
        sampler = make(probe=lambda: [native_id(thread)])
        assert until(lambda: number(take(sampler).probe_cpu_ns) > 10_000_000)
    sampler.close()


def test_the_serving_thread_of_grpc_counts_as_request() -> None:
    sampler = make()
    with spinning("Thread-1 (_serve)"):
        assert until(lambda: number(take(sampler).request_cpu_ns) > 10_000_000)
    sampler.close()


def test_a_thread_that_the_interpreter_does_not_know_is_native(tmp_path: Path) -> None:
    fake = {f"self/task/{2**22 + 1}/schedstat": "5000 70 3\n"}
    write(tmp_path, fake)
    reading = take(make(proc=tmp_path))
    assert (reading.native_cpu_ns, reading.runqueue_ns, reading.python_cpu_ns) == (5000, 70, 0)


def test_sums_do_not_fall_when_threads_end() -> None:
    sampler = make()
    with spinning("short-lived"):
        assert until(lambda: number(take(sampler).python_cpu_ns) > 10_000_000)
        before = take(sampler)
    after = take(sampler)
    sampler.close()
    assert number(after.python_cpu_ns) >= number(before.python_cpu_ns)
    assert number(after.runqueue_ns) >= number(before.runqueue_ns)


def open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_descriptors_of_ended_threads_are_closed() -> None:
    sampler = make()
    with spinning("one more") as thread:
        own = f"/task/{native_id(thread)}/schedstat"
        take(sampler)
        assert any(own in file for file in open_files())
    # The interpreter's join may return before the kernel has taken the task off its list.
    assert until(lambda: bool(sampler.sample(0)) and not any(own in f for f in open_files()))
    sampler.close()


def test_threads_of_one_name_are_one_instance() -> None:
    names = Names()
    sampler = make(names)
    with spinning("twin"), spinning("twin"):
        assert until(lambda: "twin" in {names.text(s.instance) for s in sampler.sample(0)[1:]})
    sampler.close()
    assert len([text for _, text in names.ids if text == "twin"]) == 1


def test_above_the_cap_only_request_threads_have_values(tmp_path: Path) -> None:
    first = 2**22
    ids = range(first, first + TASKS_MAX + 1)
    write(tmp_path, {f"self/task/{tid}/schedstat": "1000 10 3\n" for tid in ids})
    sampler = make(request=lambda: [first + 7], proc=tmp_path)
    samples = sampler.sample(0)
    sampler.close()
    (reading,) = samples
    assert isinstance(reading, ThreadsSample)
    assert reading.tasks == TASKS_MAX + 1
    assert (reading.request_cpu_ns, reading.request_runqueue_ns) == (1000, 10)
    assert reading.runqueue_ns is None
    assert reading.native_cpu_ns is None
    assert reading.python_cpu_ns is None


def test_sums_are_complete_again_below_the_cap(tmp_path: Path) -> None:
    first = 2**22
    ids = range(first, first + TASKS_MAX + 1)
    write(tmp_path, {f"self/task/{tid}/schedstat": "1000 10 3\n" for tid in ids})
    sampler = make(proc=tmp_path)
    take(sampler)
    gone = tmp_path / "self" / "task" / str(first)
    (gone / "schedstat").unlink()
    gone.rmdir()
    assert take(sampler).native_cpu_ns == 1000 * TASKS_MAX
    sampler.close()


def test_a_kernel_without_times_per_thread_is_unavailable(tmp_path: Path) -> None:
    write(tmp_path, {f"self/task/{2**22}/schedstat": "0 0 0\n"})
    with pytest.raises(SourceUnavailable, match="CONFIG_SCHED_INFO"):
        make(proc=tmp_path).sample(0)


def test_a_runtime_without_the_file_is_unavailable(tmp_path: Path) -> None:
    write(tmp_path, {f"self/task/{2**22}/stat": ""})
    with pytest.raises(SourceUnavailable, match="CONFIG_SCHED_INFO"):
        make(proc=tmp_path).sample(0)


def test_without_proc_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="mount /proc"):
        make(proc=tmp_path).sample(0)
