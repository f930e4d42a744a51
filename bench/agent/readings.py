"""What the samplers of a healthy server with 64 threads say once a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    CgroupMemorySample,
    MethodSample,
    PressureSample,
    ProbeSample,
    ProcessSample,
    PythonSample,
    Sample,
    SamplerSample,
    ServerSample,
    ThreadsSample,
)

PARTS = ("heartbeat", "stacks", "core", "samplers", "server", "governor", "grpc", "torch", "stages")
SAMPLERS = ("process", "threads", "cgroup", "pressure", "python")
CORES = 4.0
"""CPU of the server."""
_MIB = 1 << 20


class Readings:
    """Writes them.

    Args:
        ring: where to.
        methods: ids of their names.
        server: the name's id.
        workers: of the server.
    """

    def __init__(self, ring: RingWriter, methods: Sequence[int], server: int, workers: int) -> None:
        self._ring = ring
        self._methods = methods
        self._server = server
        self._workers = workers
        self._seconds = 0
        intern = ring.intern
        self._parts = [intern(NameKind.OTHER, name) for name in PARTS]
        self._samplers = [intern(NameKind.OTHER, name) for name in SAMPLERS]
        self._scopes = [intern(NameKind.OTHER, name) for name in ("system", "container")]
        self._threads = [intern(NameKind.THREAD, f"background{n}") for n in range(3)]

    def write(self, now_ns: int, in_flight: int) -> int:
        """Write a second's; returns how many."""
        self._seconds += 1
        samples = [
            *self._process(now_ns),
            *self._container(now_ns),
            *self._serving(now_ns, in_flight),
        ]
        for sample in samples:
            self._ring.write_sample(sample)
        return len(samples)

    def _so_far(self, per_second: float) -> float:
        return per_second * self._seconds

    def _process(self, now_ns: int) -> Iterator[Sample]:
        cpu_ns = self._so_far(CORES * 1e9)
        yield ProcessSample(
            now_ns, 0, cpu_user_ns=cpu_ns * 0.95, cpu_system_ns=cpu_ns * 0.05,
            resident_bytes=900 * _MIB, threads=64, voluntary_switches=self._so_far(9_000),
            involuntary_switches=self._so_far(300), minor_faults=self._so_far(50), major_faults=0,
            read_bytes=0, written_bytes=0, start_wall_ns=1, effective_cpus=16,
        )  # fmt: skip
        yield ThreadsSample(
            now_ns, 0, tasks=64, runqueue_ns=cpu_ns * 0.02, request_runqueue_ns=cpu_ns * 0.015,
            request_cpu_ns=cpu_ns * 0.9, python_cpu_ns=cpu_ns * 0.02, native_cpu_ns=cpu_ns * 0.07,
            probe_cpu_ns=cpu_ns * 0.002,
        )  # fmt: skip
        for thread in self._threads:
            yield BusyThreadSample(now_ns, thread, cpu_ns=cpu_ns * 0.005)
        yield PythonSample(
            now_ns, 0, gil_enabled=1, beats=self._so_far(10), late_beats=0,
            gil_wait_ns=self._so_far(1e6), gc_collections=self._so_far(3),
            gc_pause_ns=self._so_far(2e6),
        )  # fmt: skip

    def _container(self, now_ns: int) -> Iterator[Sample]:
        yield CgroupCpuSample(
            now_ns, 0, version=2, inode=7, periods=self._so_far(10), throttled_periods=0,
            throttled_ns=0, usage_ns=self._so_far(CORES * 1e9), limit_cores=16,
        )  # fmt: skip
        yield CgroupMemorySample(
            now_ns, 0, inode=7, usage_bytes=1_000 * _MIB, working_set_bytes=950 * _MIB,
            limit_bytes=4_000 * _MIB, oom_kills=0,
        )  # fmt: skip
        for scope in self._scopes:
            yield PressureSample(
                now_ns, scope, cpu_some_ns=self._so_far(1e7), cpu_full_ns=0, memory_some_ns=0,
                memory_full_ns=0, io_some_ns=self._so_far(1e6), io_full_ns=0,
            )  # fmt: skip

    def _serving(self, now_ns: int, in_flight: int) -> Iterator[Sample]:
        yield ServerSample(
            now_ns, self._server, workers=self._workers, workers_busy=self._workers * 0.45,
            queued=0, in_flight=in_flight, oldest_age_ns=4_000_000, seen=self._so_far(1_000),
            core_waiting=0, core_wait_ns=self._so_far(2e7), core_abandoned=0,
        )  # fmt: skip
        for method in self._methods:
            yield MethodSample(now_ns, method, in_flight=in_flight)
        for part in self._parts:
            yield ProbeSample(now_ns, part, errors=0, enabled=1)
        yield ProbeSample(
            now_ns, 0, enabled=1, sample_every=40, cpu_ns=self._so_far(1e7), memory_bytes=4 * _MIB,
            budget_ratio=1,
        )  # fmt: skip
        for sampler in self._samplers:
            yield SamplerSample(now_ns, sampler, 200_000, 0)
