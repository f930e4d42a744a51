"""Families that are one field of one sample: process, container, pressure, Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pinchpoint.expose.family import Family, Labels, Point, PointsOf
from pinchpoint.snapshot import Snapshot

_NS = 1e-9

Reading = tuple[str, str, float, Labels]
"""Sample type's name, field, scale to the base unit, label values."""


def _points(readings: Sequence[Reading], *, counters: bool) -> PointsOf:
    def points(snapshot: Snapshot) -> Iterable[Point]:
        values = snapshot.counters if counters else snapshot.gauges
        for sample_type, field, scale, labels in readings:
            value = values.get((sample_type, "", field))
            if value is not None:
                yield labels, value * scale

    return points


def _counter(name: str, text: str, labels: Labels, *readings: Reading) -> Family:
    return Family(name, "counter", text, labels, _points(readings, counters=True))


def _gauge(name: str, text: str, *readings: Reading) -> Family:
    return Family(name, "gauge", text, (), _points(readings, counters=False))


def _pressure(snapshot: Snapshot) -> Iterable[Point]:
    for (sample_type, scope, field), value in sorted(snapshot.counters.items()):
        if sample_type == "PressureSample":
            resource, kind, _ = field.split("_")
            yield (resource, kind, scope), value * _NS


def _named(sample_type: str, field: str, scale: float, *, counters: bool) -> PointsOf:
    def points(snapshot: Snapshot) -> Iterable[Point]:
        values = snapshot.counters if counters else snapshot.gauges
        for (kind, name, key), value in sorted(values.items()):
            if kind == sample_type and key == field and name:
                yield (name,), value * scale

    return points


PROCESS: tuple[Family, ...] = (
    _counter(
        "pinchpoint_process_cpu_seconds",
        "CPU time of the serving processes.",
        ("mode",),
        ("ProcessSample", "cpu_user_ns", _NS, ("user",)),
        ("ProcessSample", "cpu_system_ns", _NS, ("system",)),
    ),
    _counter(
        "pinchpoint_process_thread_cpu_seconds",
        "CPU time of the serving processes by class of thread.",
        ("class",),
        ("ThreadsSample", "request_cpu_ns", _NS, ("request",)),
        ("ThreadsSample", "python_cpu_ns", _NS, ("python",)),
        ("ThreadsSample", "native_cpu_ns", _NS, ("native",)),
    ),
    _counter(
        "pinchpoint_process_context_switches",
        "Context switches of the serving processes.",
        ("kind",),
        ("ProcessSample", "voluntary_switches", 1, ("voluntary",)),
        ("ProcessSample", "involuntary_switches", 1, ("involuntary",)),
    ),
    _counter(
        "pinchpoint_process_page_faults",
        "Page faults of the serving processes.",
        ("kind",),
        ("ProcessSample", "minor_faults", 1, ("minor",)),
        ("ProcessSample", "major_faults", 1, ("major",)),
    ),
    _counter(
        "pinchpoint_process_read_bytes",
        "Bytes that the serving processes caused to be read from storage.",
        (),
        ("ProcessSample", "read_bytes", 1, ()),
    ),
    _counter(
        "pinchpoint_process_written_bytes",
        "Bytes that the serving processes caused to be written to storage.",
        (),
        ("ProcessSample", "written_bytes", 1, ()),
    ),
    _gauge(
        "pinchpoint_process_resident_memory_bytes",
        "Resident memory of the serving processes.",
        ("ProcessSample", "resident_bytes", 1, ()),
    ),
    _gauge(
        "pinchpoint_process_threads",
        "Threads of the serving processes.",
        ("ProcessSample", "threads", 1, ()),
    ),
    _gauge(
        "pinchpoint_process_start_time_seconds",
        "Start of the youngest serving process, in seconds since the epoch.",
        ("ProcessSample", "start_wall_ns", _NS, ()),
    ),
    _counter(
        "pinchpoint_runqueue_wait_seconds",
        "Time that threads of the serving processes were runnable without a CPU, summed.",
        (),
        ("ThreadsSample", "runqueue_ns", _NS, ()),
    ),
)

CONTAINER: tuple[Family, ...] = (
    _counter(
        "pinchpoint_container_cpu_usage_seconds",
        "CPU time of the serving container.",
        (),
        ("CgroupCpuSample", "usage_ns", _NS, ()),
    ),
    _counter(
        "pinchpoint_container_cpu_throttled_seconds",
        "Time the CPU quota stopped the container, summed over CPUs: no share of wall time.",
        (),
        ("CgroupCpuSample", "throttled_ns", _NS, ()),
    ),
    _counter(
        "pinchpoint_container_cpu_periods",
        "CFS periods in which the container had work.",
        (),
        ("CgroupCpuSample", "periods", 1, ()),
    ),
    _counter(
        "pinchpoint_container_cpu_throttled_periods",
        "CFS periods in which the container used up its quota.",
        (),
        ("CgroupCpuSample", "throttled_periods", 1, ()),
    ),
    _gauge(
        "pinchpoint_container_cpu_limit_cores",
        "CPU quota of the container.",
        ("CgroupCpuSample", "limit_cores", 1, ()),
    ),
    _gauge(
        "pinchpoint_container_memory_usage_bytes",
        "Memory charged to the container, page cache included.",
        ("CgroupMemorySample", "usage_bytes", 1, ()),
    ),
    _gauge(
        "pinchpoint_container_memory_working_set_bytes",
        "Memory charged to the container without its inactive file pages.",
        ("CgroupMemorySample", "working_set_bytes", 1, ()),
    ),
    _gauge(
        "pinchpoint_container_memory_limit_bytes",
        "Memory limit of the container.",
        ("CgroupMemorySample", "limit_bytes", 1, ()),
    ),
    _counter(
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

PYTHON: tuple[Family, ...] = (
    _counter(
        "pinchpoint_gil_wait_seconds",
        "Time that a 10 Hz heartbeat waited for the interpreter lock.",
        (),
        ("PythonSample", "gil_wait_ns", _NS, ()),
    ),
    _counter(
        "pinchpoint_gil_beats",
        "Beats of the heartbeat that measures waits for the interpreter lock.",
        (),
        ("PythonSample", "beats", 1, ()),
    ),
    _counter(
        "pinchpoint_gil_late_beats",
        "Beats that waited more than 2 ms for the interpreter lock.",
        (),
        ("PythonSample", "late_beats", 1, ()),
    ),
    _counter(
        "pinchpoint_gc_pause_seconds",
        "Time that Python's cyclic collector stopped the serving processes.",
        (),
        ("PythonSample", "gc_pause_ns", _NS, ()),
    ),
    _counter(
        "pinchpoint_gc_collections",
        "Runs of Python's cyclic collector.",
        (),
        ("PythonSample", "gc_collections", 1, ()),
    ),
)

PROBE: tuple[Family, ...] = (
    Family(
        "pinchpoint_probe_errors",
        "counter",
        "Internal errors of the probe; a part with an error is off.",
        ("part",),
        _named("ProbeSample", "errors", 1, counters=True),
    ),
    Family(
        "pinchpoint_probe_enabled",
        "gauge",
        "1 while a part of the probe runs in all serving processes.",
        ("part",),
        _named("ProbeSample", "enabled", 1, counters=False),
    ),
    _counter(
        "pinchpoint_probe_cpu_seconds",
        "CPU time of the probe's own threads.",
        (),
        ("ThreadsSample", "probe_cpu_ns", _NS, ()),
    ),
    _gauge(
        "pinchpoint_probe_requests_per_detail",
        "One request in this many is sampled with its thread clocks.",
        ("ProbeSample", "sample_every", 1, ()),
    ),
    Family(
        "pinchpoint_sampler_duration_seconds",
        "gauge",
        "How long a sampler's last run took.",
        ("sampler",),
        _named("SamplerSample", "duration_ns", _NS, counters=False),
    ),
    Family(
        "pinchpoint_sampler_errors",
        "counter",
        "Failed runs of a sampler.",
        ("sampler",),
        _named("SamplerSample", "errors", 1, counters=True),
    ),
)
