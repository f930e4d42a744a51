"""Of all causes found in one window: which are causes, which are effects, which is first."""

from __future__ import annotations

from collections.abc import Sequence

from pinchpoint.detect.findings import Finding, Found, RuledOut
from pinchpoint.detect.labels import COMPOSITION, LABELS, QUEUEING
from pinchpoint.detect.thresholds import QUEUE_RHO_AFTER

GAIN_TIE = 0.05
"""Gains closer than this are equal: the replay is good to about 3 points (DETECTOR 0.6)."""


def rank(findings: Sequence[Finding]) -> tuple[list[Found], list[RuledOut]]:
    """The causes found, first the primary; and everything ruled out, with reasons.

    Queueing is an effect of any cause without which the servers would be less than 80 %
    busy. A label of composition that has no reference to be judged by gives way to
    queueing that takes more of the latency than it does.
    """
    found = [finding for finding in findings if isinstance(finding, Found)]
    ruled_out = [finding for finding in findings if isinstance(finding, RuledOut)]
    causes = [f for f in found if f.label not in QUEUEING]
    kept = list(causes)
    for queueing in (f for f in found if f.label in QUEUEING):
        cause = next((c for c in causes if _explains(c)), None)
        if cause is None:
            kept.append(queueing)
        else:
            reason = f"the queueing is an effect of {cause.label.type}"
            ruled_out.append(RuledOut(queueing.label, "exclusion", reason))
    # Not `kept.sort`: a list is empty to its own key function.
    ranked = sorted(kept, key=lambda f: (_gives_way(f, kept), -round(f.gain.mean_ratio / GAIN_TIE)))
    return ranked, ruled_out


def _explains(cause: Found) -> bool:
    judged = cause.label not in COMPOSITION or cause.grown is not None
    return judged and cause.gain.utilization_after < QUEUE_RHO_AFTER


def _gives_way(finding: Found, kept: Sequence[Found]) -> bool:
    """Whether a composition label without a reference yields to larger queueing."""
    if finding.label not in COMPOSITION or finding.grown is not None:
        return False
    return any(f.label in QUEUEING and f.share_ratio >= finding.share_ratio for f in kept)


def order(label_type: str) -> int:
    """The place of a label among equals."""
    return next(i for i, label in enumerate(LABELS) if label.type == label_type)
