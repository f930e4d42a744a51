"""Samples: what a source reads at its own pace. Counters are cumulative.

Every field is a number or None. None means that the source could not say, and no
series is made of it: absent is absent. Order of fields and of `SAMPLE_TYPES` is part
of the wire format: append only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

Value = float | None


@dataclass(frozen=True)
class Sample:
    """A reading at `time_ns` (CLOCK_MONOTONIC) of `instance`, a name id or 0."""

    time_ns: int
    instance: int

    scope: ClassVar[str] = "process"
    """`process` readings of several workers are summed; `container` and `host` ones are
    the same reading taken several times and are not."""


@dataclass(frozen=True)
class ProcessSample(Sample):
    """The serving process as the kernel accounts for it."""

    cpu_user_ns: Value = None
    cpu_system_ns: Value = None
    resident_bytes: Value = None
    threads: Value = None
    voluntary_switches: Value = None
    involuntary_switches: Value = None
    minor_faults: Value = None
    major_faults: Value = None
    read_bytes: Value = None
    written_bytes: Value = None
    start_wall_ns: Value = None
    effective_cpus: Value = None


@dataclass(frozen=True)
class ThreadsSample(Sample):
    """All tasks of the process, by class. CPU and run-queue delay in nanoseconds.

    `request` are the threads that serve RPCs, `python` every other thread the
    interpreter knows, `native` the rest (OpenMP and BLAS pools, the gRPC core),
    `probe` our own.
    """

    tasks: Value = None
    runqueue_ns: Value = None
    request_runqueue_ns: Value = None
    request_cpu_ns: Value = None
    python_cpu_ns: Value = None
    native_cpu_ns: Value = None
    probe_cpu_ns: Value = None


@dataclass(frozen=True)
class BusyThreadSample(Sample):
    """One of the busiest Python threads that serve no request; `instance` names it."""

    cpu_ns: Value = None


@dataclass(frozen=True)
class CgroupCpuSample(Sample):
    """The CPU controller of the container (or its nearest ancestor with a quota)."""

    scope: ClassVar[str] = "container"

    version: Value = None
    inode: Value = None
    periods: Value = None
    throttled_periods: Value = None
    throttled_ns: Value = None
    usage_ns: Value = None
    limit_cores: Value = None


@dataclass(frozen=True)
class CgroupMemorySample(Sample):
    """The memory controller of the container."""

    scope: ClassVar[str] = "container"

    inode: Value = None
    usage_bytes: Value = None
    working_set_bytes: Value = None
    limit_bytes: Value = None
    oom_kills: Value = None


@dataclass(frozen=True)
class PressureSample(Sample):
    """Pressure stall totals in nanoseconds; `instance` names `system` or `container`."""

    scope: ClassVar[str] = "container"

    cpu_some_ns: Value = None
    cpu_full_ns: Value = None
    memory_some_ns: Value = None
    memory_full_ns: Value = None
    io_some_ns: Value = None
    io_full_ns: Value = None


@dataclass(frozen=True)
class PythonSample(Sample):
    """The interpreter: the GIL heartbeat and the collector.

    A heartbeat is late when it woke more than `LATE_BEAT_NS` after its deadline, its
    own run-queue delay taken off.
    """

    gil_enabled: Value = None
    beats: Value = None
    late_beats: Value = None
    gil_wait_ns: Value = None
    gc_collections: Value = None
    gc_pause_ns: Value = None


@dataclass(frozen=True)
class ServerSample(Sample):
    """One kind of server of the process; `instance` names it (`grpc`, `grpc.aio`, `http`).

    `core_…` are estimates from the gRPC core's own call counters: RPCs that it has accepted
    and Python has not seen yet, the integral of their number over time (which is the time
    that all of them have waited), and those that ended without Python ever seeing them.
    """

    workers: Value = None
    workers_busy: Value = None
    queued: Value = None
    in_flight: Value = None
    oldest_age_ns: Value = None
    seen: Value = None
    core_waiting: Value = None
    core_wait_ns: Value = None
    core_abandoned: Value = None


@dataclass(frozen=True)
class LoopSample(Sample):
    """An event loop: how late its timers run. `lag_0` … count by `terms.GAP_BOUNDS_NS`,
    the last of them what is above all bounds."""

    beats: Value = None
    lag_ns: Value = None
    lag_0: Value = None
    lag_1: Value = None
    lag_2: Value = None
    lag_3: Value = None
    lag_4: Value = None
    lag_5: Value = None
    lag_6: Value = None
    lag_7: Value = None
    lag_8: Value = None
    lag_9: Value = None
    lag_10: Value = None
    lag_11: Value = None
    lag_12: Value = None
    lag_13: Value = None
    lag_14: Value = None
    lag_15: Value = None
    lag_16: Value = None


@dataclass(frozen=True)
class MethodSample(Sample):
    """What is running of one method; `instance` is its name id."""

    in_flight: Value = None


@dataclass(frozen=True)
class ModelSample(Sample):
    """What is known of a model without running it; `instance` is its name id."""

    parameters: Value = None
    bytes: Value = None
    dtype_id: Value = None
    device_id: Value = None
    compiled: Value = None


@dataclass(frozen=True)
class TorchSample(Sample):
    """torch's own settings in the process, and what it costs to serve with them.

    The last four are 1 or 0, by the models that have been called: gradients recorded, training
    mode, float32 matrices multiplied in full precision where the hardware has faster, a model on
    the CPU beside a GPU.
    """

    intraop_threads: Value = None
    interop_threads: Value = None
    grad_enabled: Value = None
    training_mode: Value = None
    float32_matmul: Value = None
    model_on_cpu: Value = None


@dataclass(frozen=True)
class ProbeSample(Sample):
    """The probe's own health; `instance` names the part, 0 is the whole.

    `cpu_ns` is what the probe has used: its threads as measured, its sampled requests as
    calibrated; `budget_ratio` is the share that the governor leaves of the sampling, 1 when it
    does not interfere.
    """

    errors: Value = None
    enabled: Value = None
    sample_every: Value = None
    cpu_ns: Value = None
    memory_bytes: Value = None
    budget_ratio: Value = None


@dataclass(frozen=True)
class SamplerSample(Sample):
    """One run of a sampler; `instance` names it."""

    duration_ns: Value = None
    errors: Value = None


@dataclass(frozen=True)
class SignalSample(Sample):
    """Whether a signal can be read here; `instance` names it, `reason_id` says why not."""

    available: Value = None
    reason_id: Value = None


@dataclass(frozen=True)
class HostSample(Sample):
    """The machine as any container sees it; CPU time summed over `cpus`."""

    scope: ClassVar[str] = "host"

    cpus: Value = None
    busy_ns: Value = None
    steal_ns: Value = None
    iowait_ns: Value = None


LATE_BEAT_NS = 2_000_000
"""DETECTOR 3, family C: heartbeat net lateness above 2 ms is a wait for the GIL; idle
machines stay below 0.2 ms, one Python-bound thread gives 5 ms (the switch interval)."""

SAMPLE_TYPES: tuple[type[Sample], ...] = (
    ProcessSample,
    ThreadsSample,
    BusyThreadSample,
    CgroupCpuSample,
    CgroupMemorySample,
    PressureSample,
    PythonSample,
    ServerSample,
    MethodSample,
    ModelSample,
    TorchSample,
    ProbeSample,
    SamplerSample,
    SignalSample,
    HostSample,
    LoopSample,
)
