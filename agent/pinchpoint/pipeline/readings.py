"""Samples of several processes as one set of counters and gauges.

Process readings are summed. Container, pressure and host readings are the same thing read
several times: the first living source that reports them speaks for all. Counters count
from the first reading of each source, so that they stay monotonic over restarts.
"""

from __future__ import annotations

from pinchpoint.schema.names import Names
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    CgroupMemorySample,
    HostSample,
    ModelSample,
    PressureSample,
    ProbeSample,
    ProcessSample,
    PythonSample,
    Sample,
    SamplerSample,
    ServerSample,
    SignalSample,
    ThreadsSample,
)
from pinchpoint.schema.wire import sample_fields
from pinchpoint.snapshot import ModelFacts, ReadingKey, Signal

COUNTERS: dict[type[Sample], tuple[str, ...]] = {
    ProcessSample: (
        "cpu_user_ns",
        "cpu_system_ns",
        "voluntary_switches",
        "involuntary_switches",
        "minor_faults",
        "major_faults",
        "read_bytes",
        "written_bytes",
    ),
    ThreadsSample: (
        "runqueue_ns",
        "request_runqueue_ns",
        "request_cpu_ns",
        "python_cpu_ns",
        "native_cpu_ns",
        "probe_cpu_ns",
    ),
    BusyThreadSample: ("cpu_ns",),
    CgroupCpuSample: ("periods", "throttled_periods", "throttled_ns", "usage_ns"),
    CgroupMemorySample: ("oom_kills",),
    PressureSample: sample_fields(PressureSample),
    PythonSample: ("beats", "late_beats", "gil_wait_ns", "gc_collections", "gc_pause_ns"),
    ProbeSample: ("errors",),
    SamplerSample: ("errors",),
    HostSample: ("busy_ns", "steal_ns", "iowait_ns"),
}

_NAMED = (ProbeSample, SamplerSample, PressureSample)
"""Types whose instances keep their names; readings of all others are merged."""


class Readings:
    """Merges the samples of all sources.

    Args:
        names: resolves instance ids.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._latest: dict[tuple[type[Sample], str], dict[tuple[int, int], Sample]] = {}
        self._last: dict[tuple[type[Sample], int, str, float], Sample] = {}
        self.counters: dict[ReadingKey, float] = {}
        self.signals: dict[str, Signal] = {}
        self._models: dict[tuple[int, int], ModelFacts] = {}

    def add(self, source: int, sample: Sample) -> None:
        """Take in a sample."""
        if isinstance(sample, SignalSample):
            self._add_signal(source, sample)
        elif isinstance(sample, ModelSample):
            self._add_model(source, sample)
        else:
            kind = type(sample)
            named = isinstance(sample, _NAMED)
            name = self._names.text(source, sample.instance) if named and sample.instance else ""
            of_kind = self._latest.setdefault((kind, name), {})
            of_kind[source, sample.instance] = sample
            if kind.scope == "process" or source == min(s for s, _ in of_kind):
                self._count(source, name, sample)

    def close_source(self, source: int) -> None:
        """A process is gone: its gauges end, its counters stay."""
        for of_kind in self._latest.values():
            for key in [key for key in of_kind if key[0] == source]:
                del of_kind[key]
        self._models = {key: facts for key, facts in self._models.items() if key[0] != source}
        self._last = {key: sample for key, sample in self._last.items() if key[1] != source}

    def gauges(self) -> dict[ReadingKey, float]:
        """The latest value of every field that is not a counter: summed over processes, or
        as the one source says that speaks for the container."""
        gauges: dict[ReadingKey, float] = {}
        for (kind, name), of_kind in self._latest.items():
            counters = COUNTERS.get(kind, ())
            speaker = min((source for source, _ in of_kind), default=0)
            for (source, _), sample in of_kind.items():
                if kind.scope != "process" and source != speaker:
                    continue
                for field in sample_fields(kind):
                    value = getattr(sample, field)
                    if value is None or field in counters:
                        continue
                    key = (kind.__name__, name, field)
                    gauges[key] = _merge(kind, field, gauges.get(key), value)
        return gauges

    def models(self) -> tuple[ModelFacts, ...]:
        """What is known of each model, once however many processes serve it."""
        return tuple({facts.model: facts for facts in self._models.values()}.values())

    def _count(self, source: int, name: str, sample: Sample) -> None:
        kind = type(sample)
        group = getattr(sample, "inode", None) or float(sample.instance)
        key = (kind, source, name, group)
        last = self._last.get(key)
        self._last[key] = sample
        for field in COUNTERS.get(kind, ()):
            value = getattr(sample, field)
            if value is None:
                continue
            counter = (kind.__name__, name, field)
            before = getattr(last, field) if last is not None else None
            increase = max(0.0, value - before) if before is not None else 0.0
            self.counters[counter] = self.counters.get(counter, 0.0) + increase

    def _add_signal(self, source: int, sample: SignalSample) -> None:
        name = self._names.text(source, sample.instance)
        reason = self._names.text(source, sample.reason_id) if sample.reason_id else ""
        self.signals[name] = Signal(name, bool(sample.available), reason)

    def _add_model(self, source: int, sample: ModelSample) -> None:
        text = self._names.text
        self._models[source, sample.instance] = ModelFacts(
            text(source, sample.instance),
            text(source, sample.device_id) if sample.device_id else "",
            text(source, sample.dtype_id) if sample.dtype_id else "",
            bool(sample.compiled),
            sample.parameters,
            sample.bytes,
        )


def _merge(kind: type[Sample], field: str, so_far: float | None, value: float) -> float:
    if so_far is None:
        return value
    if kind is ServerSample and field == "oldest_age_ns":
        return max(so_far, value)
    if (kind is ProcessSample and field in ("start_wall_ns", "effective_cpus")) or (
        kind is PythonSample or (kind is ProbeSample and field != "enabled")
    ):
        return max(so_far, value)
    if kind is ProbeSample or (kind is SamplerSample and field == "duration_ns"):
        return min(so_far, value) if kind is ProbeSample else max(so_far, value)
    return so_far + value
