"""One function a label: its own mechanism's counter, its exclusions, what it would gain,
and, for labels that say what the service is made of, the harm done.

Each returns `Found`, or `RuledOut` naming the gate that failed. The order of the gates is
that of the reasons a reader wants: can it be told here, is the mechanism at work, is
something else the reason for it, would removing it matter, does it harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from pinchpoint.detect import labels
from pinchpoint.detect.circumstances import Circumstances
from pinchpoint.detect.decomposition import HANDLER_STAGES
from pinchpoint.detect.features import DOWNSTREAM_CATEGORIES, PREPROCESS_STAGES
from pinchpoint.detect.findings import Evidence, Finding, Found, RuledOut
from pinchpoint.detect.reference import FORWARD, PREPROCESS
from pinchpoint.detect.replay_model import Gain
from pinchpoint.detect.thresholds import (
    COMPARED_MIN,
    CPU_IDLE,
    CPU_SATURATED,
    DOWNSTREAM_SHARE,
    FORWARD_SHARE,
    GAIN_MIN,
    GC_SHARE,
    GIL_LATE_RATIO,
    GIL_OWN_CORES,
    GROWN_SHARE,
    HARM_RATIO,
    HEADROOM_MIN,
    LAYER_SHARE,
    PREPROCESS_SHARE,
    QUEUE_SHARE,
    RUNQUEUE_SHARE,
    THROTTLED_PERIODS_RATIO,
)
from pinchpoint.schema.events import RequestDetail
from pinchpoint.schema.terms import STAGES, WAIT_CATEGORIES

Mechanism = Callable[[Circumstances], Finding]


def cpu_quota_throttling(c: Circumstances) -> Finding:
    """The quota's own counters; without them nothing tells it from a neighbour (LAB 4)."""
    label, f = labels.CPU_QUOTA_THROTTLING, c.features
    ratio = f.throttled_periods_ratio
    if f.quota_cores is None:
        return RuledOut(label, "signal", "no CPU quota is set on this container, or none is seen")
    if ratio is None:
        return RuledOut(label, "mechanism", "too few scheduler periods had work to judge by")
    if ratio < THROTTLED_PERIODS_RATIO:
        return RuledOut(label, "mechanism", f"{_percent(ratio)} of CFS periods were throttled")
    # Removing the quota removes the waits for a CPU and those for threads that were
    # themselves stopped; the CPU that requests burn stays.
    blocked = _contention_blocked(c)
    gain = c.gain(lambda d: sum(s.runqueue_ns for s in d.stages) / 1e9 + blocked(d))
    if not _material(gain):
        return _immaterial(label, gain)
    share = c.decomposition.share("throttled") + c.decomposition.share("runqueue")
    evidence = (
        _ratio_evidence(
            "cgroup_throttled_periods_ratio",
            ratio,
            THROTTLED_PERIODS_RATIO,
            f"{_percent(ratio)} of CFS periods were throttled "
            f"({f.throttled_periods:.0f} in the window)",
        ),
        Evidence(
            "cgroup_cpu_limit_cores",
            f.quota_cores,
            "cores",
            None,
            f"the limit is {f.quota_cores:.2f} cores, {f.cpu_cores or 0:.2f} are in use",
        ),
        _ratio_evidence(
            "runqueue_share_ratio",
            share,
            None,
            f"{_percent(share)} of latency is spent runnable without a CPU",
        ),
    )
    summary = (
        f"The CPU limit of {f.quota_cores:.2f} cores stops the server: "
        f"{_percent(ratio)} of scheduler periods are throttled."
    )
    return Found(label, share, gain, evidence, summary)


def gil_contention(c: Circumstances) -> Finding:
    """A heartbeat that wakes late, its own wait for a CPU taken off."""
    label, f, late = labels.GIL_CONTENTION, c.features, c.features.gil_late_ratio
    if late is None:
        return RuledOut(label, "signal", "no GIL heartbeat was received")
    if not c.gil_contended:
        return RuledOut(label, "mechanism", f"{_percent(late)} of heartbeats waited for the GIL")
    if (f.gc_share or 0.0) >= GC_SHARE:
        reason = f"the collector stops the process {_percent(f.gc_share or 0)} of the time"
        return RuledOut(label, "exclusion", reason)
    if c.throttled and not c.gil_held_by_others:
        return RuledOut(label, "exclusion", "the lock's holder is stopped by the CPU quota")
    if not c.gil_held_by_others:
        harm = _no_harm_of_own_python(c)
        if harm:
            return RuledOut(label, "harm", harm)
    blocked = _contention_blocked(c)
    gain = c.gain(blocked)
    if not _material(gain):
        return _immaterial(label, gain)
    share = c.decomposition.share("gil")
    evidence = [
        _ratio_evidence(
            "gil_late_beats_ratio",
            late,
            GIL_LATE_RATIO,
            f"{_percent(late)} of heartbeats waited more than 2 ms for the GIL",
        ),
        _ratio_evidence(
            "gil_share_ratio", share, None, f"{_percent(share)} of latency is waiting for the GIL"
        ),
    ]
    holder = ""
    if f.busiest_thread is not None and c.gil_held_by_others:
        name, cores = f.busiest_thread
        holder = f" Thread '{name}', which serves no request, uses {cores:.2f} cores."
        evidence.append(
            Evidence(
                "busiest_thread_cores", cores, "cores", None, f"thread '{name}' is the busiest"
            )
        )
    hot = f.top_site(HANDLER_STAGES, ("python", "running"))
    if hot and not c.gil_held_by_others:
        evidence.append(
            Evidence("location", hot, "code", None, f"requests are most often at {hot}")
        )
    summary = f"Request threads wait for Python's interpreter lock.{holder}"
    return Found(label, share, gain, tuple(evidence), summary)


def downstream_wait(c: Circumstances) -> Finding:
    """Handlers blocked in calls to others, by the stacks of waiting request threads."""
    label, f = labels.DOWNSTREAM_WAIT, c.features
    if not f.looks:
        return RuledOut(label, "signal", "no stacks of request threads were received")
    waited = c.decomposition.components.get("downstream", 0.0)
    share = waited / f.service_seconds if f.service_seconds else 0.0
    if share < DOWNSTREAM_SHARE:
        reason = f"{_percent(share)} of the service time is spent in calls to others"
        return RuledOut(label, "mechanism", reason)
    if c.gil_contended or c.throttled:
        reason = "answers of others wait for the interpreter lock or for the CPU quota"
        return RuledOut(label, "exclusion", reason)
    usual = c.reference.waiting if c.reference else None
    grown = c.grown(c.figures.waiting, usual)
    excess = 1.0 if usual is None else max(0.0, c.figures.waiting - usual) / waited
    fraction = _blocked_fraction(c, "downstream")
    gain = c.gain(lambda d: fraction(d) * min(1.0, excess))
    harm = _no_harm(c, grown, "waiting for others", waited)
    if harm:
        return RuledOut(label, "harm", harm)
    if not _material(gain):
        return _immaterial(label, gain)
    location = f.top_site(HANDLER_STAGES, DOWNSTREAM_CATEGORIES)
    evidence = [
        _ratio_evidence(
            "downstream_share_ratio",
            share,
            DOWNSTREAM_SHARE,
            f"{_percent(share)} of the service time is blocked in calls to others "
            f"({_milliseconds(waited)} a request)",
        )
    ]
    evidence += _grown_evidence("waiting_growth_ratio", grown, "the wait")
    if location:
        evidence.append(Evidence("location", location, "code", None, f"they wait at {location}"))
    at = f" at {location}" if location else ""
    summary = f"Requests wait {_milliseconds(waited)} for another service{at}."
    share = c.decomposition.share("downstream")
    return Found(label, share, gain, tuple(evidence), summary, grown=grown)


def preprocess_cpu(c: Circumstances) -> Finding:
    """Thread CPU around the forward."""
    label, f = labels.PREPROCESS_CPU, c.features
    if "forward" not in f.stages:
        return RuledOut(label, "signal", "no forward of a torch model was seen in a request")
    cpu = f.cpu_of(PREPROCESS_STAGES)
    ref = c.reference
    grown = c.grown(c.figures.preprocess_cpu, ref.preprocess_cpu if ref else None)
    common = c.grown(c.figures.forward_cpu, ref.forward_cpu if ref else None)
    finding = _cpu_stage(c, label, cpu, "preprocessing", PREPROCESS_SHARE, grown, common)
    if isinstance(finding, RuledOut):
        return finding
    share, excess = finding
    if _throttling_explains(c, cpu * excess):
        return RuledOut(label, "exclusion", "the CPU quota, not the work, makes requests slow")
    gain = c.gain(lambda d: _cpu_removed(d, PREPROCESS, excess, c))
    if not _material(gain):
        return _immaterial(label, gain)
    location = f.top_site(("preprocess", "postprocess"), WAIT_CATEGORIES)
    evidence = [
        _ratio_evidence(
            "preprocess_cpu_share_ratio",
            share,
            PREPROCESS_SHARE if grown is None else GROWN_SHARE,
            f"{_percent(share)} of the service time, waits for a CPU left out, is CPU around "
            f"the forward ({_milliseconds(cpu)} a request)",
        ),
        *_grown_evidence("preprocess_growth_ratio", grown, "its CPU"),
    ]
    if location:
        evidence.append(Evidence("location", location, "code", None, f"most often at {location}"))
    at = f", most often at {location}" if location else ""
    summary = f"Preprocessing burns {_milliseconds(cpu)} of CPU a request{at}."
    share_of_latency = min(1.0, cpu / max(c.decomposition.latency_seconds, 1e-9))
    return Found(label, share_of_latency, gain, tuple(evidence), summary, grown=grown)


def model_hot_layer(c: Circumstances) -> Finding:
    """Thread CPU in the forward, and the layer that has most of it."""
    label, f = labels.MODEL_HOT_LAYER, c.features
    if "forward" not in f.stages:
        return RuledOut(label, "signal", "no forward of a torch model was seen in a request")
    cpu = f.cpu_of(("forward",))
    ref = c.reference
    grown = c.grown(c.figures.forward_cpu, ref.forward_cpu if ref else None)
    common = c.grown(c.figures.preprocess_cpu, ref.preprocess_cpu if ref else None)
    finding = _cpu_stage(c, label, cpu, "the forward", FORWARD_SHARE, grown, common)
    if isinstance(finding, RuledOut):
        return finding
    share, excess = finding
    if _throttling_explains(c, cpu * excess):
        return RuledOut(label, "exclusion", "the CPU quota, not the work, makes requests slow")
    gain = c.gain(lambda d: _cpu_removed(d, (FORWARD,), excess, c))
    if not _material(gain):
        return _immaterial(label, gain)
    evidence = [
        _ratio_evidence(
            "forward_cpu_share_ratio",
            share,
            FORWARD_SHARE if grown is None else GROWN_SHARE,
            f"{_percent(share)} of the service time, waits for a CPU left out, is CPU in the "
            f"forward ({_milliseconds(cpu)} a request)",
        ),
        *_grown_evidence("forward_growth_ratio", grown, "its CPU"),
    ]
    summary = f"The model's forward burns {_milliseconds(cpu)} of CPU a request"
    subtype = "diffuse"
    top = hot_layer(f.layers)
    if top:
        model, layer, layer_share = top
        concentrated = layer_share >= LAYER_SHARE
        subtype = "concentrated" if concentrated else "diffuse"
        text = f"layer {layer} of {model} takes {_percent(layer_share)} of the forward"
        threshold = LAYER_SHARE if concentrated else None
        evidence.append(_ratio_evidence("top_layer_share_ratio", layer_share, threshold, text))
        evidence.append(Evidence("layer", layer, "layer", None, f"the layer is {layer}"))
        summary += f"; {_percent(layer_share)} of it in layer {layer}"
    share_of_latency = min(1.0, cpu / max(c.decomposition.latency_seconds, 1e-9))
    return Found(
        label, share_of_latency, gain, tuple(evidence), summary + ".", subtype, grown=grown
    )


def insufficient_parallelism(c: Circumstances) -> Finding:
    """Requests queue for a worker while CPUs are idle."""
    label, f = labels.INSUFFICIENT_PARALLELISM, c.features
    queue_share = c.decomposition.share("queue")
    if queue_share < QUEUE_SHARE:
        return RuledOut(label, "mechanism", f"{_percent(queue_share)} of latency is queueing")
    if f.cpu_utilization is None:
        return RuledOut(label, "signal", "the CPU use of the process is not known")
    if f.cpu_utilization >= CPU_IDLE:
        reason = f"the CPUs are not idle ({_percent(f.cpu_utilization)} used)"
        return RuledOut(label, "mechanism", reason)
    runqueue = c.decomposition.share("runqueue") / max(1e-9, 1.0 - queue_share)
    if c.throttled or c.gil_contended or runqueue >= RUNQUEUE_SHARE:
        reason = "requests hold their workers longer because of CPU, quota or GIL"
        return RuledOut(label, "exclusion", reason)
    held = c.grown(c.figures.service, c.reference.service if c.reference else None)
    if held is not None and held >= HARM_RATIO:
        return RuledOut(label, "exclusion", f"requests hold their workers {held:.1f} times as long")
    workers = c.model.servers
    gain = c.model.gain(servers=max(workers + 1, 2 * workers))
    if not _material(gain):
        return _immaterial(label, gain)
    queue = c.decomposition.components["queue"]
    evidence = (
        _ratio_evidence(
            "queue_share_ratio",
            queue_share,
            QUEUE_SHARE,
            f"{_percent(queue_share)} of latency is waiting for a worker "
            f"({_milliseconds(queue)} a request)",
        ),
        Evidence("workers", float(workers), "threads", None, f"{workers} requests run at once"),
        Evidence(
            "cpu_utilization_ratio",
            f.cpu_utilization,
            "ratio",
            CPU_IDLE,
            f"only {_percent(f.cpu_utilization)} of the CPU is used",
            below=True,
        ),
    )
    noun = "worker" if workers == 1 else "workers"
    summary = (
        f"Requests wait {_milliseconds(queue)} for one of {workers} {noun} "
        f"while {_percent(1 - f.cpu_utilization)} of the CPU is idle."
    )
    return Found(label, queue_share, gain, evidence, summary)


def queue_saturation(c: Circumstances) -> Finding:
    """Queueing that nothing else explains, with the resources used up."""
    label, f = labels.QUEUE_SATURATION, c.features
    waiting = c.decomposition.share("queue") + c.decomposition.share("runqueue")
    if waiting < QUEUE_SHARE:
        return RuledOut(label, "mechanism", f"{_percent(waiting)} of latency is queueing")
    if f.cpu_utilization is None:
        return RuledOut(label, "signal", "the CPU use of the process is not known")
    if f.cpu_utilization < CPU_SATURATED:
        reason = f"the CPUs are not used up ({_percent(f.cpu_utilization)} used)"
        return RuledOut(label, "mechanism", reason)
    if c.throttled or c.gil_contended:
        return RuledOut(label, "exclusion", "quota or GIL explain the waiting")
    cost, usual = c.figures.process_cpu, c.reference.process_cpu if c.reference else None
    if cost and usual and cost >= HARM_RATIO * usual:
        reason = f"the process burns {cost / usual:.1f} times its usual CPU for each request"
        return RuledOut(label, "exclusion", reason)
    busy = c.model.utilization
    gain = c.model.gain(servers=2 * c.model.servers, removed=_half_runqueue(c))
    if not _material(gain):
        return _immaterial(label, gain)
    rate = f.traffic.requests_per_second
    evidence = (
        _ratio_evidence(
            "queue_share_ratio", waiting, QUEUE_SHARE, f"{_percent(waiting)} of latency is queueing"
        ),
        _ratio_evidence(
            "cpu_utilization_ratio",
            f.cpu_utilization,
            CPU_SATURATED,
            f"{_percent(f.cpu_utilization)} of the CPU is used",
        ),
        _ratio_evidence(
            "worker_utilization_ratio",
            busy,
            None,
            f"workers are {_percent(busy)} busy",
        ),
        Evidence("request_rate", rate, "requests/s", None, f"{rate:.0f} requests/s arrive"),
    )
    summary = f"{rate:.0f} requests/s are more than this replica can serve without queueing."
    return Found(label, waiting, gain, evidence, summary)


MECHANISMS: tuple[Mechanism, ...] = (
    cpu_quota_throttling,
    gil_contention,
    downstream_wait,
    preprocess_cpu,
    model_hot_layer,
    insufficient_parallelism,
    queue_saturation,
)
"""One a label, in the order of `labels.LABELS`."""


# Shared steps of the tests


def _cpu_stage(
    c: Circumstances,
    label: labels.Label,
    cpu_seconds: float,
    what: str,
    share_min: float,
    grown: float | None,
    common: float | None,
) -> tuple[float, float] | RuledOut:
    """Mechanism and harm of a stage that burns CPU.

    Returns its share of the service time (waits for a CPU, the quota and the GIL left out)
    and the part of its CPU that is in excess of the reference, all of it without one.
    """
    service = c.features.service_seconds
    threshold = share_min if grown is None else GROWN_SHARE
    # Contention stretches the service time but not the CPU: judge the share by what the
    # request would take without it.
    contention = sum(
        c.decomposition.components.get(k, 0.0) for k in ("runqueue", "throttled", "gil")
    )
    share = cpu_seconds / max(service - contention, 1e-9)
    if share < threshold:
        reason = f"{what} takes {_percent(share)} of the service time, waits for a CPU left out"
        return RuledOut(label, "mechanism", reason)
    harm = _no_harm(c, grown, what, cpu_seconds)
    if harm:
        return RuledOut(label, "harm", harm)
    # A slower CPU (frequency, a neighbour on the sibling thread) stretches all stages
    # alike; only what grew beyond the others did so by itself.
    if grown is not None and common is not None and grown < HARM_RATIO * max(1.0, common):
        reason = f"{what} grew {grown:.1f} times, the rest of the request {common:.1f} times"
        return RuledOut(label, "harm", reason)
    excess = 1.0 if grown is None else 1.0 - 1.0 / grown
    return share, excess


def _no_harm(c: Circumstances, grown: float | None, what: str, seconds: float) -> str:
    """Why a label of composition does no harm; empty if it does."""
    requests = len(c.features.details)
    if requests < COMPARED_MIN:
        return f"{requests} requests are too few to tell what is unusual"
    if grown is not None:
        if grown >= HARM_RATIO:
            return ""
        return (
            f"{what} is the largest part ({_milliseconds(seconds)} a request) "
            f"but only {grown:.2f} times its usual"
        )
    headroom = 1.0 - c.utilization
    if headroom < HEADROOM_MIN:
        return ""
    return (
        f"no reference is known yet and {_percent(headroom)} of capacity is free "
        f"({what}: {_milliseconds(seconds)} a request)"
    )


def _no_harm_of_own_python(c: Circumstances) -> str:
    """Why waits for a lock that only requests hold do no harm; empty if they do. Such a
    service is made of Python: what it waits at its usual load is its usual."""
    slower = c.grown(c.figures.latency, c.reference.latency if c.reference else None)
    if slower is not None:
        if slower >= HARM_RATIO:
            return ""
        return f"requests share the lock among themselves, at {slower:.2f} times the usual latency"
    cores = c.features.request_python_cores or 0.0
    if cores >= GIL_OWN_CORES:
        return ""
    return f"no reference is known yet, and {cores:.2f} cores outside forwards leave headroom"


def _throttling_explains(c: Circumstances, excess_cpu_seconds: float) -> bool:
    """Whether the quota would still throttle if the extra CPU were not burnt."""
    f = c.features
    if not c.throttled or f.quota_cores is None or f.cpu_cores is None:
        return False
    demand = f.traffic.requests_per_second * excess_cpu_seconds
    return f.cpu_cores - demand > 0.85 * f.quota_cores or demand < 0.1 * f.quota_cores


def _cpu_removed(
    d: RequestDetail, stages: tuple[int, ...], excess: float, c: Circumstances
) -> float:
    """Seconds that a request would not need without some of its CPU: that CPU, its part of
    the waits for one and, where requests themselves hold the GIL, of the waits for it."""
    cpu = sum(s.cpu_ns for s in d.stages)
    removed = sum(d.stages[i].cpu_ns for i in stages) * excess
    if not cpu:
        return 0.0
    waits = sum(s.runqueue_ns for s in d.stages)
    seconds = (removed + waits * removed / cpu) / 1e9
    if c.gil_contended and not c.gil_held_by_others:
        seconds += _contention_blocked(c)(d) * removed / cpu
    return seconds


def _contention_blocked(c: Circumstances) -> Callable[[RequestDetail], float]:
    """Seconds of a request blocked for the interpreter lock, or for threads that the quota
    has stopped: what the decomposition gave to `gil`, and to nothing in particular when
    the group is throttled."""
    shares = {
        name: c.decomposition.blocked_share(name, "gil", mean)
        + (c.decomposition.blocked_share(name, "unattributed", mean) if c.throttled else 0.0)
        for name, mean in c.features.stages.items()
        if name != "queue"
    }
    return _weighted_blocked(shares)


def _blocked_fraction(c: Circumstances, component: str) -> Callable[[RequestDetail], float]:
    """Seconds of a request blocked for a component."""
    shares = {
        name: c.decomposition.blocked_share(name, component, mean)
        for name, mean in c.features.stages.items()
        if name in HANDLER_STAGES
    }
    return _weighted_blocked(shares)


def _weighted_blocked(shares: dict[str, float]) -> Callable[[RequestDetail], float]:
    indexed = [(STAGES.index(name), share) for name, share in shares.items() if share > 0]
    return lambda d: sum(d.stages[i].blocked_ns * share for i, share in indexed) / 1e9


def _half_runqueue(c: Circumstances) -> list[float]:
    """Twice the CPUs: half the run-queue wait of each job, in proportion."""
    runqueue = c.decomposition.components["runqueue"]
    ratio = 0.5 * runqueue / c.features.service_seconds if c.features.service_seconds else 0.0
    return [job.service_seconds * ratio for job in c.model.jobs]


def hot_layer(layers: dict[str, dict[str, float]]) -> tuple[str, str, float] | None:
    """Model, name and share of the forward of the deepest module that still has
    `LAYER_SHARE` of it; the module with most CPU of its own if none has.

    Own times add up along the dotted names, so a block's share is that of its subtree.
    """
    if not layers:
        return None
    model, own = max(layers.items(), key=lambda item: sum(item[1].values()))
    total = sum(own.values())
    if total <= 0:
        return None
    inclusive: Counter[str] = Counter()
    for name, seconds in own.items():
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            inclusive[".".join(parts[:depth])] += seconds  # type: ignore[assignment]
    heavy = [name for name, seconds in inclusive.items() if seconds / total >= LAYER_SHARE]
    if heavy:
        deepest = max(heavy, key=lambda name: (name.count("."), inclusive[name]))
        return model, deepest, inclusive[deepest] / total
    top = max(own, key=lambda name: own[name])
    return model, top, own[top] / total


def _material(gain: Gain) -> bool:
    p95_ratio = gain.p95_ratio or 0.0
    return gain.mean_ratio >= GAIN_MIN or (p95_ratio >= GAIN_MIN and gain.mean_ratio > 0.05)


def _immaterial(label: labels.Label, gain: Gain) -> RuledOut:
    reason = f"removing it would gain {_percent(gain.mean_ratio)} of the mean latency"
    return RuledOut(label, "materiality", reason)


def _ratio_evidence(name: str, value: float, threshold: float | None, text: str) -> Evidence:
    return Evidence(name, value, "ratio", threshold, text)


def _grown_evidence(name: str, grown: float | None, what: str) -> list[Evidence]:
    if grown is None:
        return []
    times = f"{grown:.1f} times its usual" if grown < 100 else "usually next to nothing"
    return [Evidence(name, grown, "ratio", HARM_RATIO, f"{what} is {times}")]


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"
