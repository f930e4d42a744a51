"""Families of what the detector says."""

from __future__ import annotations

from collections.abc import Iterable

from pinchpoint.detect.labels import LABELS
from pinchpoint.expose.family import Family, Point, by_label, single
from pinchpoint.snapshot import Snapshot


def _active(snapshot: Snapshot) -> Iterable[Point]:
    active = {active.found.label.type for active in snapshot.verdict.active}
    for label in LABELS:
        yield (label.type, "provisional"), float(label.type in active)


def _primary(snapshot: Snapshot) -> Iterable[Point]:
    verdict = snapshot.verdict
    first = verdict.active[0].found if verdict.active else None
    owner, subtype = (first.label.owner, first.subtype) if first else ("", "")
    yield (verdict.primary, owner, subtype), 1.0


def _whatif(snapshot: Snapshot) -> Iterable[Point]:
    for active in snapshot.verdict.active:
        gain, label = active.found.gain, active.found.label.type
        if gain.trusted:
            yield (label, "mean"), gain.mean_ratio
            if gain.p95_ratio is not None:
                yield (label, "p95"), gain.p95_ratio


VERDICT: tuple[Family, ...] = (
    Family(
        "pinchpoint_bottleneck_state",
        "gauge",
        "1 while a bottleneck type is in a state.",
        ("type", "state"),
        _active,
    ),
    Family(
        "pinchpoint_bottleneck_primary_info",
        "gauge",
        "The verdict: exactly one series, a bottleneck type or healthy, idle, unknown.",
        ("type", "owner", "subtype"),
        _primary,
    ),
    Family(
        "pinchpoint_bottleneck_seconds",
        "counter",
        "Time that a bottleneck type was active.",
        ("type",),
        lambda s: by_label(s.bottleneck_seconds),
    ),
    Family(
        "pinchpoint_bottleneck_transitions",
        "counter",
        "Times that a bottleneck type became active.",
        ("type",),
        lambda s: by_label(s.bottleneck_transitions),
    ),
    Family(
        "pinchpoint_bottleneck_share_ratio",
        "gauge",
        "Share of latency that an active bottleneck type accounts for.",
        ("type",),
        lambda s: (((a.found.label.type,), a.found.share_ratio) for a in s.verdict.active),
    ),
    Family(
        "pinchpoint_whatif_latency_reduction_ratio",
        "gauge",
        "Latency that removing an active bottleneck would save, at most.",
        ("type", "stat"),
        _whatif,
        "experimental",
    ),
    Family(
        "pinchpoint_utilization_ratio",
        "gauge",
        "The larger of worker and CPU utilization.",
        (),
        lambda s: single(s.verdict.utilization_ratio),
    ),
    Family(
        "pinchpoint_unattributed_ratio",
        "gauge",
        "Share of latency that the decomposition cannot attribute.",
        (),
        lambda s: single(
            s.verdict.decomposition.unattributed_ratio
            if s.verdict.decomposition.latency_seconds
            else None
        ),
    ),
)
