"""Samples of several processes as one set of counters and gauges.

Process readings are summed. Container, pressure and host readings are the same thing read
several times: the first living source that reports them speaks for all. Counters count
from the first reading of each source, so that they stay monotonic over restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add

from pinchpoint.pipeline.caps import Admission
from pinchpoint.schema.names import Names
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    CgroupMemorySample,
    GcSample,
    GpuSample,
    GpuXidSample,
    HostSample,
    LoopSample,
    ModelSample,
    PressureSample,
    ProbeSample,
    ProcessSample,
    PythonSample,
    Sample,
    SamplerSample,
    ServedSample,
    ServerSample,
    SignalSample,
    ThreadsSample,
    TorchMemorySample,
)
from pinchpoint.schema.terms import OTHER
from pinchpoint.schema.wire import sample_fields
from pinchpoint.snapshot import GpuFacts, ModelFacts, ReadingKey, Signal

SERVED_GAUGES = ("running", "waiting", "deferred", "cache_usage_ratio", "concurrency")

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
    CgroupMemorySample: ("oom_kills", "limit_hits", "high_events"),
    PressureSample: sample_fields(PressureSample),
    PythonSample: ("beats", "late_beats", "gil_wait_ns", "gc_collections", "gc_pause_ns"),
    ServerSample: ("seen", "core_wait_ns", "core_abandoned"),
    LoopSample: sample_fields(LoopSample),
    GcSample: sample_fields(GcSample),
    ProbeSample: ("errors", "cpu_ns"),
    SamplerSample: ("errors",),
    HostSample: ("busy_ns", "steal_ns", "iowait_ns"),
    GpuSample: (
        "energy_joules",
        "throttled_power_ns",
        "throttled_thermal_ns",
        "throttled_hardware_ns",
        "throttled_sync_boost_ns",
        "throttled_board_limit_ns",
        "throttled_low_utilization_ns",
        "throttled_reliability_ns",
        "pcie_replays",
        "ecc_corrected",
        "ecc_uncorrected",
    ),
    GpuXidSample: ("errors",),
    TorchMemorySample: ("alloc_retries", "ooms"),
    ServedSample: tuple(f for f in sample_fields(ServedSample) if f not in SERVED_GAUGES),
}

Merge = Callable[[float, float], float]

MERGED: dict[tuple[type[Sample], str], Merge] = {
    (ProcessSample, "start_wall_ns"): max,
    (ProcessSample, "effective_cpus"): max,
    (ProcessSample, "open_files_limit"): min,
    (PythonSample, "gil_enabled"): max,
    (ServerSample, "oldest_age_ns"): max,
    (ProbeSample, "enabled"): min,
    (ProbeSample, "sample_every"): max,
    (ProbeSample, "budget_ratio"): min,
    (SamplerSample, "duration_ns"): max,
    (ServedSample, "cache_usage_ratio"): max,
}
"""Gauges of several processes that are not summed."""

_NAMED = (
    ProbeSample,
    SamplerSample,
    PressureSample,
    GpuSample,
    GpuXidSample,
    TorchMemorySample,
    ServedSample,
)
"""Types whose instances keep their names; readings of all others are merged."""

_FROM_BIRTH = (ProbeSample, SamplerSample)
"""Counters that begin with the process and are our own: what they say first counts whole, or an
error before the first reading would never show."""

_OURS = (ProbeSample, SamplerSample, PressureSample)
"""Named by ourselves, and few: their series are among those that are always there."""

_MODEL_SERIES = 3
"""Its info, parameters and bytes."""

_NAME_IDS = ("product_id", "driver_id", "parent_id")

Key = tuple[type[Sample], str]
"""A type of sample and the name of an instance, "" where instances are merged."""


class Readings:
    """Merges the samples of all sources.

    Processes are summed. What several of them read of the same thing is taken from one: of a
    container (told apart by its control group's inode), a device (by its name) or the machine,
    one source speaks until it is gone or cannot read it any more, and then the oldest that can.

    Args:
        names: resolves instance ids.
        admission: which names get series of their own.
    """

    def __init__(self, names: Names, admission: Admission) -> None:
        self._names = names
        self._admission = admission
        self._latest: dict[Key, dict[tuple[int, int], Sample]] = {}
        self._last: dict[tuple[Key, int, float], dict[str, float]] = {}
        self._containers: dict[int, float] = {}
        self._knowing: set[tuple[Key, int]] = set()
        self._speakers: dict[tuple[Key, float], int] = {}
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
            if isinstance(sample, CgroupCpuSample) and sample.inode:
                self._containers[source] = sample.inode
            key = self._key(source, sample)
            of_key = self._latest.setdefault(key, {})
            of_key[source, sample.instance] = sample
            if _says_something(sample):
                self._knowing.add((key, source))
            else:
                # One whose driver does not answer must not hide what the others read.
                self._knowing.discard((key, source))
            self._count(source, key, sample, self._speaks(source, key))

    def close_source(self, source: int) -> None:
        """A process is gone: its gauges end, its counters stay."""
        for of_key in self._latest.values():
            for key in [key for key in of_key if key[0] == source]:
                del of_key[key]
        for named in (self._signals, self._models):
            for name in [name for name, of_name in named.items() if source in of_name]:
                del named[name][source]
                if not named[name]:
                    del named[name]
        self._last = {key: values for key, values in self._last.items() if key[1] != source}
        self._containers.pop(source, None)
        self._knowing = {known for known in self._knowing if known[1] != source}
        self._speakers = {slot: of for slot, of in self._speakers.items() if of != source}

    def gauges(self) -> dict[ReadingKey, float]:
        """The latest value of every field that is not a counter: summed over processes and
        containers."""
        gauges: dict[ReadingKey, float] = {}
        for (kind, name), of_key in self._latest.items():
            if _mixes_devices((kind, name)):
                continue
            fields = [f for f in sample_fields(kind) if f not in COUNTERS.get(kind, ())]
            for (source, _), sample in of_key.items():
                if not self._speaks(source, (kind, name)):
                    continue
                for field in fields:
                    value = getattr(sample, field)
                    if value is None:
                        continue
                    key = (kind.__name__, name, field)
                    merge: Merge = MERGED.get((kind, field), add)
                    gauges[key] = merge(gauges[key], value) if key in gauges else value
        return gauges

    def models(self) -> tuple[ModelFacts, ...]:
        """What is known of each model, once however many processes serve it."""
        return tuple(list(of_model.values())[-1] for of_model in self._models.values())

    def gpus(self) -> tuple[GpuFacts, ...]:
        """What is known of each GPU, once however many processes use it."""
        facts = []
        for (kind, name), of_key in self._latest.items():
            if kind is not GpuSample or _mixes_devices((kind, name)):
                continue
            for (source, _), sample in of_key.items():
                if self._speaks(source, (kind, name)):
                    texts = [self._text(source, getattr(sample, field)) for field in _NAME_IDS]
                    index = getattr(sample, "index", None)
                    facts.append(GpuFacts(name, None if index is None else round(index), *texts))
        return tuple(facts)

    def signals(self) -> tuple[Signal, ...]:
        """Every signal once: one process that cannot read it speaks for all."""
        said = [list(of_signal.values()) for of_signal in self._signals.values()]
        return tuple(min(signals, key=lambda signal: signal.available) for signals in said)

    def _key(self, source: int, sample: Sample) -> Key:
        kind = type(sample)
        if not (isinstance(sample, _NAMED) and sample.instance):
            return kind, ""
        text = self._names.text(source, sample.instance)
        series = 0 if isinstance(sample, _OURS) else len(sample_fields(kind))
        return kind, self._admission.name("readings", text, series, within=kind.__name__)

    def _speaks(self, source: int, key: Key) -> bool:
        """Whether this source is the one that is believed of what its sample is about."""
        if key[0].scope == "process":
            return True
        slot = key, self._group(source, key)
        speaker = self._speakers.get(slot)
        if speaker is None or (key, speaker) not in self._knowing:
            of_group = [s for s, _ in self._latest[key] if self._group(s, key) == slot[1]]
            knowing = [s for s in of_group if (key, s) in self._knowing]
            speaker = self._speakers[slot] = min(knowing or of_group)
        return source == speaker

    def _group(self, source: int, key: Key) -> float:
        kind, name = key
        if kind.scope == "container" and name != "system":
            return self._containers.get(source, 0.0)
        return 0.0

    def _count(self, source: int, key: Key, sample: Sample, speaks: bool) -> None:
        """Note the reading and, if the source speaks, add what has come since its last.

        Readings of those who do not speak are noted too: whoever takes over goes on from
        there and does not count again what was counted through another.
        """
        kind, name = key
        group = getattr(sample, "inode", None) or float(sample.instance)
        last = self._last.setdefault((key, source, group), {})
        for field in COUNTERS.get(kind, ()):
            value = getattr(sample, field)
            if value is None:
                # A reading that failed hides nothing from who speaks. What another speaks for
                # meanwhile is counted there.
                if not speaks:
                    last.pop(field, None)
                continue
            before = last.get(field, 0 if isinstance(sample, _FROM_BIRTH) else value)
            last[field] = value
            if speaks:
                counter = (kind.__name__, name, field)
                increase = max(0.0, value - before)
                self.counters[counter] = self.counters.get(counter, 0.0) + increase

    def _add_signal(self, source: int, sample: SignalSample) -> None:
        text = self._names.text(source, sample.instance)
        name = self._admission.name("readings", text, 0, within="SignalSample")
        reason = self._text(source, sample.reason_id)
        self._signals.setdefault(name, {})[source] = Signal(name, bool(sample.available), reason)

    def _add_model(self, source: int, sample: ModelSample) -> None:
        name = self._names.text(source, sample.instance)
        name = self._admission.name("readings", name, _MODEL_SERIES, within="ModelSample")
        self._models.setdefault(name, {})[source] = ModelFacts(
            name,
            self._text(source, sample.device_id),
            self._text(source, sample.dtype_id),
            bool(sample.compiled),
            sample.parameters,
            sample.bytes,
        )

    def _text(self, source: int, name_id: float | None) -> str:
        return self._names.text(source, int(name_id)) if name_id else ""


def _mixes_devices(key: Key) -> bool:
    """Whether devices that have no series of their own came together: their counters add up, and
    nothing else of them does."""
    kind, name = key
    return kind.scope == "device" and name == OTHER


def _says_something(sample: Sample) -> bool:
    return any(getattr(sample, field) is not None for field in sample_fields(type(sample)))
