"""Where the latency went: disjoint components that sum to it.

`latency = queue + Σ stage (cpu + run-queue + blocked) + unattributed`. The thread clocks
give CPU, run-queue and blocked time exactly; what a wait was *for* is evidence, taken in
this order of precedence, so that no second is counted twice:

1. `queue`: arrival to worker. `core_wait`: blocked in `receive`, where the worker waits
   for the gRPC core and its serving thread. `batch`: blocked in `batch_wait`, where the
   handler waits for the batcher. `send`: blocked after serialising.
2. run-queue time is `throttled` as far as the quota's stalls explain it, else `runqueue`.
3. blocked time in the handler: first `gc`, the collector's own account; then by what the
   stack sampler saw of waiting threads in that stage: `disk`, `lock`, `downstream`
   (client library, socket, sleep); then `gil`, if the heartbeat waited for the lock at
   all; blocked under torch without a device is the CPU of its thread pool: `cpu`.
4. the rest is `unattributed`, and said so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pinchpoint.detect.features import DOWNSTREAM_CATEGORIES, Features, StageMean
from pinchpoint.detect.thresholds import GIL_PRESENT_RATIO, STACKS_MIN
from pinchpoint.schema.terms import COMPONENTS

HANDLER_STAGES = ("preprocess", "forward", "postprocess", "handler", "serialize")

_COMPONENT_OF = {
    **dict.fromkeys(DOWNSTREAM_CATEGORIES, "downstream"),
    "lock": "lock",
    "disk": "disk",
}


_WAITS_FOR = {"batch_wait": "batch", "send": "send"}
"""What a stage outside of the handler's own work waits for, if not the gRPC core."""


@dataclass(frozen=True)
class Decomposition:
    """Mean seconds of a request by component; every component, zeros included."""

    latency_seconds: float = 0.0
    components: dict[str, float] = field(default_factory=dict)
    blocked: dict[str, dict[str, float]] = field(default_factory=dict)
    """By stage: the blocked seconds given to each component."""
    throttled_ratio: float = 0.0
    """Share of the run-queue time that is throttling."""

    def share(self, component: str) -> float:
        """A component's share of the latency, 0 to 1."""
        if self.latency_seconds <= 0:
            return 0.0
        return self.components.get(component, 0.0) / self.latency_seconds

    @property
    def unattributed_ratio(self) -> float:
        """The detector's honesty metric."""
        return self.share("unattributed")

    def blocked_share(self, stage: str, component: str, stage_mean: StageMean) -> float:
        """Share of a stage's blocked time that went to a component."""
        if stage_mean.blocked_seconds <= 0:
            return 0.0
        given = self.blocked.get(stage, {}).get(component, 0.0)
        return given / stage_mean.blocked_seconds


def decompose(features: Features) -> Decomposition:
    """The components of the window's mean latency, by its sampled requests."""
    if not features.weight:
        return Decomposition()
    amounts = dict.fromkeys(COMPONENTS, 0.0)
    blocked: dict[str, dict[str, float]] = {}
    gc_left = features.gc_seconds
    contended = (features.gil_late_ratio or 0.0) >= GIL_PRESENT_RATIO
    runqueue = 0.0
    for name, mean in features.stages.items():
        if name == "queue":
            amounts["queue"] += mean.wall_seconds
            continue
        amounts["cpu"] += mean.cpu_seconds
        runqueue += mean.runqueue_seconds
        given = _split(name, mean, features, contended, gc_left)
        gc_left -= given.get("gc", 0.0)
        blocked[name] = given
        for component, seconds in given.items():
            amounts[component] += seconds
    throttled_ratio = _throttled_ratio(features)
    amounts["throttled"] = runqueue * throttled_ratio
    amounts["runqueue"] = runqueue - amounts["throttled"]
    attributed = sum(amounts.values()) - amounts["unattributed"]
    amounts["unattributed"] = max(0.0, features.latency_seconds - attributed)
    if attributed > features.latency_seconds > 0:  # clocks of different grain
        scale = features.latency_seconds / attributed
        amounts = {name: seconds * scale for name, seconds in amounts.items()}
    return Decomposition(features.latency_seconds, amounts, blocked, throttled_ratio)


def _split(
    stage: str, mean: StageMean, features: Features, contended: bool, gc_left: float
) -> dict[str, float]:
    """A stage's blocked seconds by component."""
    left = mean.blocked_seconds
    given: dict[str, float] = {"gc": min(left, max(0.0, gc_left))}
    left -= given["gc"]
    if stage not in HANDLER_STAGES:
        waits_for = _WAITS_FOR.get(stage, "core_wait")
        given["gil" if contended and stage == "receive" else waits_for] = left
        return given
    looks = features.looks_at(stage)
    if looks.total() < STACKS_MIN:
        if contended:
            given["gil"] = left
        else:
            given["unattributed"] = left
        return given
    waits = {
        category: looks[category] / looks.total() * mean.wall_seconds
        for category in _COMPONENT_OF
        if looks[category]
    }
    seen = sum(waits.values())
    # With a free interpreter lock the categories are the only places where a handler can
    # have waited, so they share all of it; else the lock takes what they do not explain.
    # Under torch some may have waited for its thread pool instead.
    only_these = not contended and sum(looks[c] for c in _COMPONENT_OF) > looks["torch"]
    scale = left / seen if seen > left or (seen and only_these) else 1.0
    for category, seconds in waits.items():
        component = _COMPONENT_OF[category]
        given[component] = given.get(component, 0.0) + seconds * scale
    left -= seen * scale
    if left > 0:
        rest = "gil" if contended else "cpu" if looks["torch"] else "unattributed"
        given[rest] = given.get(rest, 0.0) + left
    return given


def _throttled_ratio(features: Features) -> float:
    """How much of the run-queue time is the quota's doing.

    The kernel counts a throttled task as waiting on the run queue (LAB 4). While the group
    is stopped, every runnable thread of it waits: the stall's share of wall time times the
    mean number of runnable threads is throttling.
    """
    throttled, waiting = features.throttled_share, features.runqueue_share
    if not throttled or not waiting:
        return 0.0
    runnable = waiting + (features.cpu_cores or 0.0)
    return min(1.0, min(1.0, throttled) * runnable / waiting)
