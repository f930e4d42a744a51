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
    """`process` readings of several workers are summed; `container`, `device` and `host` ones
    are the same reading taken several times and are not."""


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
    open_files: Value = None
    open_files_limit: Value = None


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
    """The memory controller of the container. `limit_hits` are charges that the limit refused at
    first (`max` in memory.events, `failcnt` of v1), `high_events` throttled reclaims."""

    scope: ClassVar[str] = "container"

    inode: Value = None
    usage_bytes: Value = None
    working_set_bytes: Value = None
    limit_bytes: Value = None
    oom_kills: Value = None
    anonymous_bytes: Value = None
    file_bytes: Value = None
    swap_bytes: Value = None
    peak_bytes: Value = None
    limit_hits: Value = None
    high_events: Value = None


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
    """The machine as any container sees it; CPU time summed over `cpus`, load averages over 1,
    5 and 15 minutes."""

    scope: ClassVar[str] = "host"

    cpus: Value = None
    busy_ns: Value = None
    steal_ns: Value = None
    iowait_ns: Value = None
    load_1: Value = None
    load_5: Value = None
    load_15: Value = None
    memory_total_bytes: Value = None
    memory_available_bytes: Value = None


@dataclass(frozen=True)
class GcSample(Sample):
    """Pauses of Python's cyclic collector. `pause_0` … count by `terms.GAP_BOUNDS_NS`, the last
    of them what is above all bounds."""

    pause_ns: Value = None
    pause_0: Value = None
    pause_1: Value = None
    pause_2: Value = None
    pause_3: Value = None
    pause_4: Value = None
    pause_5: Value = None
    pause_6: Value = None
    pause_7: Value = None
    pause_8: Value = None
    pause_9: Value = None
    pause_10: Value = None
    pause_11: Value = None
    pause_12: Value = None
    pause_13: Value = None
    pause_14: Value = None
    pause_15: Value = None
    pause_16: Value = None


@dataclass(frozen=True)
class GpuSample(Sample):
    """One GPU or MIG instance as NVML says; `instance` names its UUID. Base units.

    `throttled_…_ns` is the time that clocks were held down for that reason. `sm_active_ratio` and
    the following are activity over the last period (GPM, Hopper and later). `product_id`,
    `driver_id` and `parent_id` (the UUID of the GPU that a MIG instance is part of) are names.
    """

    scope: ClassVar[str] = "device"

    index: Value = None
    product_id: Value = None
    driver_id: Value = None
    parent_id: Value = None
    utilization_ratio: Value = None
    memory_utilization_ratio: Value = None
    memory_used_bytes: Value = None
    memory_total_bytes: Value = None
    power_watts: Value = None
    power_limit_watts: Value = None
    energy_joules: Value = None
    temperature_celsius: Value = None
    sm_clock_hertz: Value = None
    sm_clock_max_hertz: Value = None
    memory_clock_hertz: Value = None
    throttled_power_ns: Value = None
    throttled_thermal_ns: Value = None
    throttled_hardware_ns: Value = None
    throttled_sync_boost_ns: Value = None
    throttled_board_limit_ns: Value = None
    throttled_low_utilization_ns: Value = None
    throttled_reliability_ns: Value = None
    pcie_receive_bytes_per_second: Value = None
    pcie_transmit_bytes_per_second: Value = None
    pcie_replays: Value = None
    ecc_corrected: Value = None
    ecc_uncorrected: Value = None
    processes: Value = None
    sm_active_ratio: Value = None
    sm_occupancy_ratio: Value = None
    tensor_active_ratio: Value = None
    dram_active_ratio: Value = None
    fp64_active_ratio: Value = None
    fp32_active_ratio: Value = None
    fp16_active_ratio: Value = None


@dataclass(frozen=True)
class GpuXidSample(Sample):
    """XID errors of one GPU and kind; `instance` names `UUID xid`."""

    scope: ClassVar[str] = "device"

    errors: Value = None


@dataclass(frozen=True)
class TorchMemorySample(Sample):
    """torch's caching allocator in this process on one GPU; `instance` names its UUID, or as
    `cuda:0` where torch does not tell it."""

    allocated_bytes: Value = None
    reserved_bytes: Value = None
    alloc_retries: Value = None
    ooms: Value = None


@dataclass(frozen=True)
class ServedSample(Sample):
    """A model by its server's own metrics; `instance` names it, 0 where the server does not.

    Gauges: `running` on the hardware, `waiting` for room on it, `deferred` for something else,
    `cache_usage_ratio` of the cache of keys and values; `concurrency` as the operator says. All
    others are cumulative. The seconds are sums over requests: of requests that ended
    (`request_seconds`, the queue included) or of stages that did. `executions` are batches.
    """

    running: Value = None
    waiting: Value = None
    deferred: Value = None
    cache_usage_ratio: Value = None
    concurrency: Value = None
    finished: Value = None
    failed: Value = None
    executions: Value = None
    preemptions: Value = None
    prompt_tokens: Value = None
    generated_tokens: Value = None
    request_seconds: Value = None
    queue_seconds: Value = None
    input_seconds: Value = None
    prefill_seconds: Value = None
    compute_seconds: Value = None
    decode_seconds: Value = None
    output_seconds: Value = None
    first_token_seconds: Value = None
    first_tokens: Value = None


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
    GcSample,
    GpuSample,
    GpuXidSample,
    TorchMemorySample,
    ServedSample,
)
