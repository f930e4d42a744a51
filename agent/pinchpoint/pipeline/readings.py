"""Samples of several processes as one set of counters and gauges.

Process readings are summed. Container, pressure and host readings are the same thing read
several times: the first living source that reports them speaks for all. Counters count
from the first reading of each source, so that they stay monotonic over restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add

from pinchpoint.pipeline.caps import READINGS_MAX, capped
from pinchpoint.schema.names import Names
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    CgroupMemorySample,
    HostSample,
    LoopSample,
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
    ServerSample: ("seen", "core_wait_ns", "core_abandoned"),
    LoopSample: sample_fields(LoopSample),
    ProbeSample: ("errors", "cpu_ns"),
    SamplerSample: ("errors",),
    HostSample: ("busy_ns", "steal_ns", "iowait_ns"),
}

Merge = Callable[[float, float], float]

MERGED: dict[tuple[type[Sample], str], Merge] = {
    (ProcessSample, "start_wall_ns"): max,
    (ProcessSample, "effective_cpus"): max,
    (PythonSample, "gil_enabled"): max,
    (ServerSample, "oldest_age_ns"): max,
    (ProbeSample, "enabled"): min,
    (ProbeSample, "sample_every"): max,
    (ProbeSample, "budget_ratio"): min,
    (SamplerSample, "duration_ns"): max,
}
"""Gauges of several processes that are not summed."""

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
        self._signals: dict[str, dict[int, Signal]] = {}
        self._models: dict[str, dict[int, ModelFacts]] = {}

    def add(self, source: int, sample: Sample) -> None:
        """Take in a sample."""
        if isinstance(sample, SignalSample):
            self._add_signal(source, sample)
        elif isinstance(sample, ModelSample):
            self._add_model(source, sample)
        else:
            kind = type(sample)
            name = ""
            if isinstance(sample, _NAMED) and sample.instance:
                known = [name for of, name in self._latest if of is kind]
                name = capped(self._names.text(source, sample.instance), known, READINGS_MAX)
            of_kind = self._latest.setdefault((kind, name), {})
            of_kind[source, sample.instance] = sample
            speaks = kind.scope == "process" or source == min(s for s, _ in of_kind)
            self._count(source, name, sample, speaks)

    def close_source(self, source: int) -> None:
        """A process is gone: its gauges end, its counters stay."""
        for of_kind in self._latest.values():
            for key in [key for key in of_kind if key[0] == source]:
                del of_kind[key]
        for named in (self._signals, self._models):
            for name in [name for name, of_name in named.items() if source in of_name]:
                del named[name][source]
                if not named[name]:
                    del named[name]
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
                    merge: Merge = MERGED.get((kind, field), add)
                    gauges[key] = merge(gauges[key], value) if key in gauges else value
        return gauges

    def models(self) -> tuple[ModelFacts, ...]:
        """What is known of each model, once however many processes serve it."""
        return tuple(list(of_model.values())[-1] for of_model in self._models.values())

    def signals(self) -> tuple[Signal, ...]:
        """Every signal once: one process that cannot read it speaks for all."""
        said = [list(of_signal.values()) for of_signal in self._signals.values()]
        return tuple(min(signals, key=lambda signal: signal.available) for signals in said)

    def _count(self, source: int, name: str, sample: Sample, speaks: bool) -> None:
        """Note the reading and, if the source speaks, add what has come since its last.

        Readings of those who do not speak are noted too: whoever takes over goes on from
        there and does not count again what was counted through another.
        """
        kind = type(sample)
        group = getattr(sample, "inode", None) or float(sample.instance)
        key = (kind, source, name, group)
        last = self._last.get(key)
        self._last[key] = sample
        if not speaks:
            return
        for field in COUNTERS.get(kind, ()):
            value = getattr(sample, field)
            if value is None:
                continue
            counter = (kind.__name__, name, field)
            before = getattr(last, field) if last is not None else None
            increase = max(0.0, value - before) if before is not None else 0.0
            self.counters[counter] = self.counters.get(counter, 0.0) + increase

    def _add_signal(self, source: int, sample: SignalSample) -> None:
        name = capped(self._names.text(source, sample.instance), self._signals, READINGS_MAX)
        reason = self._names.text(source, sample.reason_id) if sample.reason_id else ""
        self._signals.setdefault(name, {})[source] = Signal(name, bool(sample.available), reason)

    def _add_model(self, source: int, sample: ModelSample) -> None:
        text = self._names.text
        name = capped(text(source, sample.instance), self._models, READINGS_MAX)
        self._models.setdefault(name, {})[source] = ModelFacts(
            name,
            text(source, sample.device_id) if sample.device_id else "",
            text(source, sample.dtype_id) if sample.dtype_id else "",
            bool(sample.compiled),
            sample.parameters,
            sample.bytes,
        )
