"""The window in numbers: what each mechanism test reads. None means "cannot be told"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pinchpoint.detect.thresholds import CPU_RECENT_NS, GIL_BEATS_MIN, PERIODS_MIN
from pinchpoint.detect.window import Completed, Sampled, Window, counter_rate, increase
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    MethodSample,
    ProcessSample,
    PythonSample,
    Sample,
    ServerSample,
    ThreadsSample,
)
from pinchpoint.schema.terms import OTHER, STAGES, WAIT_CATEGORIES

PREPROCESS_STAGES = ("deserialize", "preprocess", "postprocess", "serialize")
"""The stages that `preprocess_cpu` speaks of: the handler's work around the forward."""

DOWNSTREAM_CATEGORIES = ("client", "socket", "sleep")
"""Waits for something outside this process. A sleep is one: it cannot be a lock."""


class StageMean(NamedTuple):
    """Mean seconds a request spends in a stage."""

    wall_seconds: float
    cpu_seconds: float
    runqueue_seconds: float
    blocked_seconds: float


@dataclass(frozen=True)
class Traffic:
    """The requests of the window and what is still running."""

    requests: int = 0
    requests_per_second: float = 0.0
    mean_seconds: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    p99_seconds: float | None = None
    in_flight: int | None = 0
    queued: int | None = None
    workers: int | None = None
    workers_busy: float | None = None
    oldest_request_age_seconds: float | None = None


@dataclass(frozen=True)
class Features:
    """A window's figures. Rates in cores are CPU seconds a second."""

    traffic: Traffic
    completed: tuple[Completed, ...] = ()
    window_seconds: tuple[float, float] = (0.0, 0.0)
    """Begin and end of what the window covers."""
    details: tuple[Sampled, ...] = ()
    weight: float = 0.0
    latency_seconds: float = 0.0
    stages: dict[str, StageMean] = field(default_factory=dict)
    gc_seconds: float = 0.0
    looks: dict[str, Counter[str]] = field(default_factory=dict)
    sites: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Looks by stage, category and code location."""
    layers: dict[str, dict[str, float]] = field(default_factory=dict)
    cpu_cores: float | None = None
    cpu_recent_cores: float | None = None
    cpu_limit_cores: float | None = None
    quota_cores: float | None = None
    throttled_periods_ratio: float | None = None
    throttled_periods: float | None = None
    throttled_share: float | None = None
    runqueue_share: float | None = None
    gil_late_ratio: float | None = None
    gc_share: float | None = None
    request_cores: float | None = None
    python_cores: float | None = None
    busiest_thread: tuple[str, float] | None = None

    @property
    def cpu_utilization(self) -> float | None:
        """CPU used over CPU allowed (the smaller of affinity and quota): of the window or of
        its last seconds, whichever is more."""
        if self.cpu_cores is None or not self.cpu_limit_cores:
            return None
        return max(self.cpu_cores, self.cpu_recent_cores or 0.0) / self.cpu_limit_cores

    @property
    def cpu_per_request_seconds(self) -> float | None:
        """CPU of the whole process for each finished request."""
        if self.cpu_cores is None or not self.traffic.requests:
            return None
        return self.cpu_cores / self.traffic.requests_per_second

    @property
    def request_python_cores(self) -> float | None:
        """CPU of the request threads outside the forwards: what may hold the GIL."""
        if self.request_cores is None:
            return None
        forward = self.cpu_of(("forward",)) * self.traffic.requests_per_second
        return max(0.0, self.request_cores - forward)

    @property
    def service_seconds(self) -> float:
        """Mean time a request holds a worker."""
        return sum(mean.wall_seconds for name, mean in self.stages.items() if name != "queue")

    def looks_at(self, stage: str) -> Counter[str]:
        """Looks at threads in a stage, by category.

        A running request cannot know that no forward will come: what turns out to be the
        whole `handler` was seen as `preprocess`.
        """
        looks = self.looks.get(stage, Counter())
        return looks + self.looks.get("preprocess", Counter()) if stage == "handler" else looks

    def top_site(self, stages: Container[str], categories: Container[str]) -> str:
        """The code location seen most often in some stages and categories, or ""."""
        seen: Counter[str] = Counter()
        for (stage, category, location), looks in self.sites.items():
            if stage in stages and category in categories:
                seen[location] += looks
        return seen.most_common(1)[0][0] if seen else ""

    def cpu_of(self, stages: Iterable[str]) -> float:
        """Mean CPU seconds of a request in some stages."""
        return sum(self.stages[name].cpu_seconds for name in stages if name in self.stages)


def extract(window: Window) -> Features:
    """The figures of a window."""
    details = tuple(window.details)
    weight = sum(sampled.detail.weight for sampled in details)
    limit = _cpu_limit(window)
    quota = _cgroup(window)
    return Features(
        traffic=_traffic(window),
        completed=tuple(window.requests),
        window_seconds=(window.now_ns / 1e9 - _span_seconds(window), window.now_ns / 1e9),
        details=details,
        weight=weight,
        latency_seconds=_mean(details, weight, lambda d: d.detail.latency_ns),
        stages=_stage_means(details, weight),
        gc_seconds=_mean(details, weight, lambda d: d.detail.gc_ns),
        looks=_looks(window),
        sites=_sites(window),
        layers=_layers(window),
        cpu_cores=_process_cores(window, 0),
        cpu_recent_cores=_process_cores(window, CPU_RECENT_NS),
        cpu_limit_cores=min(x for x in (limit, quota.cores) if x) if limit or quota.cores else None,
        quota_cores=quota.cores,
        throttled_periods_ratio=quota.throttled_periods_ratio,
        throttled_periods=quota.throttled_periods,
        throttled_share=quota.throttled_share,
        runqueue_share=_rate(window, ThreadsSample, "runqueue_ns"),
        **_python(window),
        request_cores=_rate(window, ThreadsSample, "request_cpu_ns"),
        python_cores=_rate(window, ThreadsSample, "python_cpu_ns"),
        busiest_thread=_busiest_thread(window),
    )


def quantile(ordered: list[float], q: float) -> float | None:
    """The `q` quantile of sorted values, by linear interpolation."""
    if not ordered:
        return None
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _traffic(window: Window) -> Traffic:
    latencies = sorted([completed.latency_ns / 1e9 for completed in window.requests])
    servers = [series[-1] for _, _, series in window.series(ServerSample)]
    busy = [
        sum(values) / len(values)
        for _, _, series in window.series(ServerSample)
        if (values := [s.workers_busy for s in series if s.workers_busy is not None])
    ]
    in_flight = [
        series[-1].in_flight
        for source, instance, series in window.series(MethodSample)
        if window.has_one_response(source, instance)
    ]
    ages = [s.oldest_age_ns / 1e9 for s in servers if s.oldest_age_ns is not None]
    seconds = _span_seconds(window)
    count = len(latencies)
    return Traffic(
        requests=count,
        requests_per_second=count / seconds,
        mean_seconds=sum(latencies) / count if count else None,
        p50_seconds=quantile(latencies, 0.50),
        p95_seconds=quantile(latencies, 0.95),
        p99_seconds=quantile(latencies, 0.99),
        in_flight=round(sum(value or 0 for value in in_flight)),
        queued=_total(s.queued for s in servers),
        workers=_total(s.workers for s in servers),
        workers_busy=sum(busy) if busy else None,
        oldest_request_age_seconds=max(ages) if ages else None,
    )


def _span_seconds(window: Window) -> float:
    """How much of the window is covered by records; never less than a second."""
    if not window.requests:
        return 1.0
    return max(1.0, (window.now_ns - window.requests[0].end_ns) / 1e9)


def _total(values: Iterable[float | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(sum(known)) if known else None


def _mean(details: tuple[Sampled, ...], weight: float, value_ns: Callable[[Sampled], int]) -> float:
    if not weight:
        return 0.0
    return sum(d.detail.weight * value_ns(d) for d in details) / weight / 1e9


def _stage_means(details: tuple[Sampled, ...], weight: float) -> dict[str, StageMean]:
    if not weight:
        return {}
    sums = [[0.0, 0.0, 0.0, 0.0] for _ in STAGES]
    for _, detail in details:
        w = detail.weight
        for total, stage in zip(sums, detail.stages, strict=True):
            wall_ns, cpu_ns, runqueue_ns = stage
            if wall_ns:
                total[0] += w * wall_ns
                total[1] += w * cpu_ns
                total[2] += w * runqueue_ns
                total[3] += w * stage.blocked_ns
    scale = weight * 1e9
    return {
        name: StageMean(*(value / scale for value in total))
        for name, total in zip(STAGES, sums, strict=True)
        if total[0]
    }


def _looks(window: Window) -> dict[str, Counter[str]]:
    looks: dict[str, Counter[str]] = {}
    for _, event, _ in window.looks:
        stage = looks.setdefault(STAGES[event.stage], Counter())
        stage[WAIT_CATEGORIES[event.category]] += 1
    return looks


def _sites(window: Window) -> Counter[tuple[str, str, str]]:
    return Counter(
        (STAGES[event.stage], WAIT_CATEGORIES[event.category], location)
        for _, event, location in window.looks
        if location != OTHER
    )


def _layers(window: Window) -> dict[str, dict[str, float]]:
    """CPU seconds by model and layer over the sampled forwards of the window."""
    layers: dict[str, dict[str, float]] = {}
    for _, model, name, event in window.layers:
        of_model = layers.setdefault(model, {})
        of_model[name] = of_model.get(name, 0.0) + event.cpu_ns / 1e9
    return layers


def _rate(window: Window, sample_type: type[Sample], name: str, recent_ns: int = 0) -> float | None:
    """Rate of a cumulative field, summed over processes; of the last `recent_ns` if given."""
    rates = []
    for _, _, series in window.series(sample_type):
        begin_ns = series[-1].time_ns - recent_ns if recent_ns else 0
        rate = counter_rate([s for s in series if s.time_ns >= begin_ns], name)
        if rate is not None:
            rates.append(rate)
    return sum(rates) if rates else None


def _process_cores(window: Window, recent_ns: int) -> float | None:
    user = _rate(window, ProcessSample, "cpu_user_ns", recent_ns)
    system = _rate(window, ProcessSample, "cpu_system_ns", recent_ns)
    return None if user is None or system is None else user + system


def _cpu_limit(window: Window) -> float | None:
    cpus = [series[-1].effective_cpus for _, _, series in window.series(ProcessSample)]
    known = [value for value in cpus if value is not None]
    return max(known) if known else None


class _Quota(NamedTuple):
    cores: float | None = None
    throttled_periods_ratio: float | None = None
    throttled_periods: float | None = None
    throttled_share: float | None = None


def _cgroup(window: Window) -> _Quota:
    """The container's CPU quota, read once however many workers report it."""
    best = _Quota()
    for _, _, series in window.series(CgroupCpuSample):
        last = series[-1]
        same_group = [s for s in series if s.inode == last.inode]
        if last.limit_cores is None:
            continue
        periods = increase(same_group, "periods")
        throttled = increase(same_group, "throttled_periods")
        ratio = None
        if periods is not None and throttled is not None and periods >= PERIODS_MIN:
            ratio = throttled / periods
        share = counter_rate(same_group, "throttled_ns")
        if best.cores is None or (ratio or 0) > (best.throttled_periods_ratio or 0):
            best = _Quota(last.limit_cores, ratio, throttled, share)
    return best


def _python(window: Window) -> dict[str, float | None]:
    beats = late = 0.0
    gc_share: float | None = None
    for _, _, series in window.series(PythonSample):
        series_beats = increase(series, "beats")
        gc_share = max(gc_share or 0.0, counter_rate(series, "gc_pause_ns") or 0.0)
        if not series_beats or series_beats < GIL_BEATS_MIN:
            continue
        series_late = increase(series, "late_beats")
        if series_late is None:  # without schedstat a late beat may have waited for a CPU
            continue
        beats += series_beats
        late += series_late
    return {
        "gil_late_ratio": late / beats if beats else None,
        "gc_share": gc_share,
    }


def _busiest_thread(window: Window) -> tuple[str, float] | None:
    threads = [
        (window.name(source, instance), rate)
        for source, instance, series in window.series(BusyThreadSample)
        if (rate := counter_rate(series, "cpu_ns")) is not None
    ]
    return max(threads, key=lambda item: item[1]) if threads else None
