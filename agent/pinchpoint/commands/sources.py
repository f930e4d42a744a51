"""Tries each of the probe's sources once, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pinchpoint.samplers.cgroup import CgroupSampler
from pinchpoint.samplers.kernel_wait import KernelView, KernelWait
from pinchpoint.samplers.nvml import NvmlSampler
from pinchpoint.samplers.nvml_driver import NO_DRIVER, has_driver
from pinchpoint.samplers.pressure import PressureSampler
from pinchpoint.samplers.process import ProcessSampler
from pinchpoint.samplers.python_runtime import GcWatch, Heartbeat, PythonSampler
from pinchpoint.samplers.source import Sampler, SourceNoData, SourceUnavailable
from pinchpoint.samplers.threads import ThreadsSampler
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import (
    CgroupCpuSample,
    CgroupMemorySample,
    GpuSample,
    PressureSample,
    ProcessSample,
    Sample,
    ThreadsSample,
)

MIB = 1 << 20
BEATS_MIN = 2


class Reading(NamedTuple):
    """What became of a source. `signal` is what labels call it, "" if none needs it."""

    name: str
    signal: str
    available: bool
    detail: str


def read_sources() -> Iterator[Reading]:
    """Every source of the probe that needs no server to look at."""
    names = _Names()
    yield _read(ProcessSampler(), _process)
    yield _read(ThreadsSampler(names.intern, tuple, tuple), _threads)
    yield _read(CgroupSampler(), _cgroup)
    yield _read(PressureSampler(names.intern), lambda samples: _pressure(samples, names))
    yield _python()
    yield _stacks()
    yield _nvml(names)


class _Names:
    def __init__(self) -> None:
        self.texts: list[str] = [""]

    def intern(self, _kind: NameKind, text: str) -> int:
        self.texts.append(text)
        return len(self.texts) - 1


def _read(sampler: Sampler, describe: Callable[[Sequence[Sample]], str]) -> Reading:
    name = sampler.name
    try:
        samples = sampler.sample(time.monotonic_ns())
    except SourceUnavailable as unavailable:
        return Reading(name, name, False, unavailable.reason)
    except SourceNoData:
        return Reading(name, name, True, "nothing to read at the moment")
    except Exception as error:
        return Reading(name, name, False, f"{type(error).__name__}: {error}")
    return Reading(name, name, True, describe(samples))


def _process(samples: Sequence[Sample]) -> str:
    absent = [
        field
        for sample in samples
        if isinstance(sample, ProcessSample)
        for field, value in vars(sample).items()
        if value is None
    ]
    return f"without {', '.join(absent)}" if absent else "CPU, memory, faults, switches, I/O"


def _threads(samples: Sequence[Sample]) -> str:
    tasks = sum(int(s.tasks or 0) for s in samples if isinstance(s, ThreadsSample))
    return f"CPU time and run-queue delay of each thread ({tasks} here)"


def _cgroup(samples: Sequence[Sample]) -> str:
    parts = []
    for sample in samples:
        if isinstance(sample, CgroupCpuSample):
            limit = sample.limit_cores
            quota = "no CPU limit" if limit is None else f"CPU limit {limit:g} cores"
            throttling = "" if sample.throttled_ns is not None else ", throttling not shown"
            parts.append(f"cgroup v{sample.version}, {quota}{throttling}")
        elif isinstance(sample, CgroupMemorySample):
            limit = sample.limit_bytes
            parts.append(
                "no memory limit" if limit is None else f"memory limit {limit / MIB:.0f} MiB"
            )
    return ", ".join(parts)


def _pressure(samples: Sequence[Sample], names: _Names) -> str:
    scopes = [names.texts[s.instance] for s in samples if isinstance(s, PressureSample)]
    missing = "" if "container" in scopes else "; the container's own need cgroup v2"
    return f"stall totals of the {' and the '.join(scopes)}{missing}"


def _python() -> Reading:
    """Lets the heartbeat beat: whether its own wait for a CPU can be taken off shows only then."""
    heartbeat = Heartbeat()
    thread = threading.Thread(target=heartbeat.run, args=(lambda: heartbeat.beats >= BEATS_MIN,))
    thread.start()
    thread.join()
    reading = _read(PythonSampler(heartbeat, GcWatch()), lambda _: "heartbeat and collector")
    if heartbeat.gil_wait_ns is None:
        return reading._replace(
            available=False,
            detail="waits for the GIL cannot be told from waits for a CPU: the kernel keeps no "
            "times per thread (CONFIG_SCHED_INFO)",
        )
    return reading


def _stacks() -> Reading:
    """Looks at a thread that waits, as the stack sampler looks at request threads."""
    done, started = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    kernel = KernelView()
    native_id = thread.native_id or 0
    kernel.prepare([native_id])
    seen = kernel.look(native_id)
    done.set()
    thread.join()
    kernel.close()
    if seen is KernelWait.UNREADABLE:
        # Code locations still come; the kind of wait is then told by names alone.
        detail = (
            "code locations only: what threads wait for in the kernel is not shown "
            "(/proc/self/task/TID/syscall); the kind of wait is guessed from the code"
        )
        return Reading("stacks", "stacks", True, detail)
    return Reading("stacks", "stacks", True, "code locations, and what threads wait for")


def _nvml(names: _Names) -> Reading:
    if not has_driver():
        return Reading("nvml", "nvml", False, NO_DRIVER)
    sampler = NvmlSampler(names.intern)
    try:
        return _read(sampler, lambda samples: _gpus(samples, names))
    finally:
        sampler.close()


def _gpus(samples: Sequence[Sample], names: _Names) -> str:
    gpus = [sample for sample in samples if isinstance(sample, GpuSample)]
    return ", ".join(
        f"{names.texts[int(gpu.product_id or 0)]} ({names.texts[gpu.instance]})" for gpu in gpus
    )
