"""The verdict as JSON: `/api/v1/verdict`. Keys are public API."""

from __future__ import annotations

from typing import Any

from pinchpoint.detect.labels import QUEUEING
from pinchpoint.detect.thresholds import WINDOW_NS
from pinchpoint.detect.verdict import Active, Verdict
from pinchpoint.snapshot import Snapshot

SCHEMA = 1


def verdict_json(snapshot: Snapshot) -> dict[str, Any]:
    """The document. Numbers that are not known are null; units are in the keys."""
    verdict = snapshot.verdict
    active = [_active(verdict, item) for item in verdict.active]
    return {
        "schema": SCHEMA,
        "time_seconds": verdict.wall_ns / 1e9,
        "window_seconds": WINDOW_NS / 1e9,
        "state": verdict.state,
        "primary": active[0] if active else _state(verdict),
        "active": active,
        "ruled_out": [
            {"type": item.label.type, "gate": item.gate, "reason": item.reason}
            for item in verdict.ruled_out
        ],
        "decomposition": _decomposition(verdict),
        "traffic": _traffic(verdict),
        "signals": [
            {"name": s.name, "available": s.available, "reason": s.reason} for s in snapshot.signals
        ],
    }


def _active(verdict: Verdict, active: Active) -> dict[str, Any]:
    found = active.found
    return {
        "type": found.label.type,
        "state": "provisional",
        "owner": found.label.owner,
        "subtype": found.subtype,
        "meaning": found.label.meaning,
        "since_seconds": (verdict.time_ns - active.since_ns) / 1e9,
        "summary": found.summary,
        "share_ratio": found.share_ratio,
        "evidence": [
            {
                "name": e.name,
                "value": e.value,
                "unit": e.unit,
                "threshold": e.threshold,
                "comparison": None if e.threshold is None else "<" if e.below else ">=",
                "text": e.text,
            }
            for e in found.evidence
        ],
        "remedies": list(found.label.remedies),
        "symptom": found.label in QUEUEING and len(verdict.active) > 1,
        "whatif": {
            "trusted": found.gain.trusted,
            "mean_latency_reduction_ratio": found.gain.mean_ratio,
            "p95_latency_reduction_ratio": found.gain.p95_ratio,
            "capacity_gain_ratio": None,
        },
    }


def _state(verdict: Verdict) -> dict[str, Any]:
    return {
        "type": verdict.primary,
        "state": verdict.state,
        "owner": "",
        "subtype": "",
        "meaning": "",
        "since_seconds": None,
        "summary": verdict.reason,
        "share_ratio": None,
        "evidence": [],
        "remedies": [],
        "symptom": False,
        "whatif": None,
    }


def _decomposition(verdict: Verdict) -> dict[str, Any] | None:
    decomposition = verdict.decomposition
    if not decomposition.latency_seconds:
        return None
    return {
        "mean_latency_seconds": decomposition.latency_seconds,
        "components": [
            {"name": name, "seconds": seconds, "share_ratio": decomposition.share(name)}
            for name, seconds in decomposition.components.items()
        ],
        "stages": [
            {"name": name, **mean._asdict()} for name, mean in verdict.features.stages.items()
        ],
        "unattributed_ratio": decomposition.unattributed_ratio,
    }


def _traffic(verdict: Verdict) -> dict[str, Any]:
    traffic = verdict.traffic
    return {
        "requests": traffic.requests,
        "requests_per_second": traffic.requests_per_second,
        "mean_seconds": traffic.mean_seconds,
        "p50_seconds": traffic.p50_seconds,
        "p95_seconds": traffic.p95_seconds,
        "p99_seconds": traffic.p99_seconds,
        "in_flight": traffic.in_flight,
        "queued": traffic.queued,
        "workers": traffic.workers,
        "workers_busy": traffic.workers_busy,
        "oldest_request_age_seconds": traffic.oldest_request_age_seconds,
        "utilization_ratio": verdict.utilization_ratio,
    }
