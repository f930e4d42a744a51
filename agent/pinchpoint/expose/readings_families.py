"""Families that are one field of one sample: process, container, pressure, Python, probe."""

from __future__ import annotations

from collections.abc import Iterable

from pinchpoint.expose.family import Family, Point, PointsOf, single
from pinchpoint.expose.reading import NS, counter, gauge, named
from pinchpoint.pipeline.buckets import FINE_SECONDS
from pinchpoint.snapshot import Histogram, Snapshot


def _pressure(snapshot: Snapshot) -> Iterable[Point]:
    for (sample_type, scope, field), value in sorted(snapshot.counters.items()):
        if sample_type == "PressureSample":
            resource, kind, _ = field.split("_")
            yield (resource, kind, scope), value * NS


def _counted(sample_type: str, field: str) -> PointsOf:
    """The histogram of a sample that is counted by `terms.GAP_BOUNDS_NS` where it is taken."""

    def points(snapshot: Snapshot) -> Iterable[Point]:
        counts = [
            snapshot.counters.get((sample_type, "", f"{field}_{number}"), 0.0)
            for number in range(len(FINE_SECONDS) + 1)
        ]
        total_ns = snapshot.counters.get((sample_type, "", f"{field}_ns"))
        if total_ns is not None:
            yield (), Histogram(FINE_SECONDS, tuple(map(round, counts)), total_ns * NS)

    return points


def _probe_cpu(snapshot: Snapshot) -> Iterable[Point]:
    whole_ns = snapshot.counters.get(("ProbeSample", "", "cpu_ns"))
    threads_ns = snapshot.counters.get(("ThreadsSample", "", "probe_cpu_ns"))
    used_ns = threads_ns if whole_ns is None else whole_ns
    return single(None if used_ns is None else used_ns * NS)


PROCESS: tuple[Family, ...] = (
    counter(
        "pinchpoint_process_cpu_seconds",
        "CPU time of the serving processes.",
        ("mode",),
        ("ProcessSample", "cpu_user_ns", NS, ("user",)),
        ("ProcessSample", "cpu_system_ns", NS, ("system",)),
    ),
    counter(
        "pinchpoint_process_thread_cpu_seconds",
        "CPU time of the serving processes by class of thread.",
        ("class",),
        ("ThreadsSample", "request_cpu_ns", NS, ("request",)),
        ("ThreadsSample", "python_cpu_ns", NS, ("python",)),
        ("ThreadsSample", "native_cpu_ns", NS, ("native",)),
    ),
    counter(
        "pinchpoint_process_context_switches",
        "Context switches of the serving processes.",
        ("kind",),
        ("ProcessSample", "voluntary_switches", 1, ("voluntary",)),
        ("ProcessSample", "involuntary_switches", 1, ("involuntary",)),
    ),
    counter(
        "pinchpoint_process_page_faults",
        "Page faults of the serving processes.",
        ("kind",),
        ("ProcessSample", "minor_faults", 1, ("minor",)),
        ("ProcessSample", "major_faults", 1, ("major",)),
    ),
    counter(
        "pinchpoint_process_read_bytes",
        "Bytes that the serving processes caused to be read from storage.",
        (),
        ("ProcessSample", "read_bytes", 1, ()),
    ),
    counter(
        "pinchpoint_process_written_bytes",
        "Bytes that the serving processes caused to be written to storage.",
        (),
        ("ProcessSample", "written_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_process_resident_memory_bytes",
        "Resident memory of the serving processes.",
        ("ProcessSample", "resident_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_process_threads",
        "Threads of the serving processes.",
        ("ProcessSample", "threads", 1, ()),
    ),
    gauge(
        "pinchpoint_process_open_fds",
        "Open file descriptors of the serving processes, from Linux 6.2 on.",
        ("ProcessSample", "open_files", 1, ()),
    ),
    gauge(
        "pinchpoint_process_max_fds",
        "The fewest descriptors that a serving process may open.",
        ("ProcessSample", "open_files_limit", 1, ()),
    ),
    gauge(
        "pinchpoint_process_start_time_seconds",
        "Start of the youngest serving process, in seconds since the epoch.",
        ("ProcessSample", "start_wall_ns", NS, ()),
    ),
    counter(
        "pinchpoint_runqueue_wait_seconds",
        "Time that threads of the serving processes were runnable without a CPU, summed.",
        (),
        ("ThreadsSample", "runqueue_ns", NS, ()),
    ),
)

CONTAINER: tuple[Family, ...] = (
    counter(
        "pinchpoint_container_cpu_usage_seconds",
        "CPU time of the serving container.",
        (),
        ("CgroupCpuSample", "usage_ns", NS, ()),
    ),
    counter(
        "pinchpoint_container_cpu_throttled_seconds",
        "Time the CPU quota stopped the container, summed over CPUs: no share of wall time.",
        (),
        ("CgroupCpuSample", "throttled_ns", NS, ()),
    ),
    counter(
        "pinchpoint_container_cpu_periods",
        "CFS periods in which the container had work.",
        (),
        ("CgroupCpuSample", "periods", 1, ()),
    ),
    counter(
        "pinchpoint_container_cpu_throttled_periods",
        "CFS periods in which the container used up its quota.",
        (),
        ("CgroupCpuSample", "throttled_periods", 1, ()),
    ),
    gauge(
        "pinchpoint_container_cpu_limit_cores",
        "CPU quota of the container.",
        ("CgroupCpuSample", "limit_cores", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_usage_bytes",
        "Memory charged to the container, page cache included.",
        ("CgroupMemorySample", "usage_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_working_set_bytes",
        "Memory charged to the container without its inactive file pages.",
        ("CgroupMemorySample", "working_set_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_limit_bytes",
        "Memory limit of the container.",
        ("CgroupMemorySample", "limit_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_anonymous_bytes",
        "Memory of the container that no file backs.",
        ("CgroupMemorySample", "anonymous_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_file_bytes",
        "Page cache charged to the container.",
        ("CgroupMemorySample", "file_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_swap_bytes",
        "Memory of the container that is swapped out.",
        ("CgroupMemorySample", "swap_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_container_memory_peak_bytes",
        "The most memory that was ever charged to the container.",
        ("CgroupMemorySample", "peak_bytes", 1, ()),
    ),
    counter(
        "pinchpoint_container_memory_limit_hits",
        "Times that memory had to be reclaimed because the container was at its limit.",
        (),
        ("CgroupMemorySample", "limit_hits", 1, ()),
    ),
    counter(
        "pinchpoint_container_memory_high_events",
        "Times that the container was slowed down because it was above memory.high.",
        (),
        ("CgroupMemorySample", "high_events", 1, ()),
    ),
    counter(
        "pinchpoint_container_oom_kills",
        "Processes of the container killed for want of memory.",
        (),
        ("CgroupMemorySample", "oom_kills", 1, ()),
    ),
    Family(
        "pinchpoint_pressure_seconds",
        "counter",
        "Pressure stall time: some or all (full) tasks waited for the resource.",
        ("resource", "kind", "scope"),
        _pressure,
    ),
)

HOST: tuple[Family, ...] = (
    gauge("pinchpoint_host_cpus", "CPUs of the machine.", ("HostSample", "cpus", 1, ())),
    counter(
        "pinchpoint_host_cpu_seconds",
        "CPU time of the machine: used by anyone, taken by its hypervisor, idle for storage.",
        ("mode",),
        ("HostSample", "busy_ns", NS, ("busy",)),
        ("HostSample", "steal_ns", NS, ("steal",)),
        ("HostSample", "iowait_ns", NS, ("iowait",)),
    ),
    gauge("pinchpoint_host_load1", "Load average, 1 minute.", ("HostSample", "load_1", 1, ())),
    gauge("pinchpoint_host_load5", "Load average, 5 minutes.", ("HostSample", "load_5", 1, ())),
    gauge("pinchpoint_host_load15", "Load average, 15 minutes.", ("HostSample", "load_15", 1, ())),
    gauge(
        "pinchpoint_host_memory_total_bytes",
        "Memory of the machine.",
        ("HostSample", "memory_total_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_host_memory_available_bytes",
        "Memory of the machine that can be used without swapping.",
        ("HostSample", "memory_available_bytes", 1, ()),
    ),
)

PYTHON: tuple[Family, ...] = (
    counter(
        "pinchpoint_gil_wait_seconds",
        "Time that a 10 Hz heartbeat waited for the interpreter lock.",
        (),
        ("PythonSample", "gil_wait_ns", NS, ()),
    ),
    counter(
        "pinchpoint_gil_beats",
        "Beats of the heartbeat that measures waits for the interpreter lock.",
        (),
        ("PythonSample", "beats", 1, ()),
    ),
    counter(
        "pinchpoint_gil_late_beats",
        "Beats that waited more than 2 ms for the interpreter lock.",
        (),
        ("PythonSample", "late_beats", 1, ()),
    ),
    gauge(
        "pinchpoint_gil_enabled",
        "1 if the interpreter lock is on in any serving process.",
        ("PythonSample", "gil_enabled", 1, ()),
    ),
    Family(
        "pinchpoint_gc_pause_seconds",
        "histogram",
        "How long Python's cyclic collector stopped a serving process.",
        (),
        _counted("GcSample", "pause"),
    ),
    Family(
        "pinchpoint_event_loop_lag_seconds",
        "histogram",
        "How late the timers of the event loops ran.",
        (),
        _counted("LoopSample", "lag"),
    ),
)

PROBE: tuple[Family, ...] = (
    Family(
        "pinchpoint_probe_errors",
        "counter",
        "Internal errors of the probe; a part with an error is off.",
        ("part",),
        named("ProbeSample", "errors", 1, counters=True),
    ),
    Family(
        "pinchpoint_probe_enabled",
        "gauge",
        "1 while a part of the probe runs in all serving processes.",
        ("part",),
        named("ProbeSample", "enabled", 1, counters=False),
    ),
    Family(
        "pinchpoint_probe_cpu_seconds",
        "counter",
        "CPU time of the probe: its threads and, where they are calibrated, its hooks.",
        (),
        _probe_cpu,
    ),
    gauge(
        "pinchpoint_probe_memory_bytes",
        "Memory of the probe in the serving processes.",
        ("ProbeSample", "memory_bytes", 1, ()),
    ),
    gauge(
        "pinchpoint_probe_budget_ratio",
        "Share of its sampling that the probe's governor allows, least of all processes.",
        ("ProbeSample", "budget_ratio", 1, ()),
    ),
    gauge(
        "pinchpoint_probe_requests_per_detail",
        "One request in this many is sampled with its thread clocks.",
        ("ProbeSample", "sample_every", 1, ()),
    ),
    Family(
        "pinchpoint_sampler_duration_seconds",
        "gauge",
        "How long a sampler's last run took.",
        ("sampler",),
        named("SamplerSample", "duration_ns", NS, counters=False),
    ),
    Family(
        "pinchpoint_sampler_errors",
        "counter",
        "Failed runs of a sampler.",
        ("sampler",),
        named("SamplerSample", "errors", 1, counters=True),
    ),
)
