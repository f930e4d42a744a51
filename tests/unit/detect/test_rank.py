from __future__ import annotations

from pinchpoint.detect import labels
from pinchpoint.detect.findings import Found, RuledOut
from pinchpoint.detect.labels import LABELS, Label
from pinchpoint.detect.rank import order, rank
from pinchpoint.detect.replay_model import Gain


def find(
    label: Label,
    gain: float,
    *,
    utilization_after: float = 0.5,
    share: float = 0.5,
    grown: float | None = None,
) -> Found:
    return Found(
        label, share, Gain(gain, gain, utilization_after, True), (), label.type, grown=grown
    )


def primary_of(*findings: Found) -> Label:
    return rank(findings)[0][0].label


def test_the_largest_gain_is_first() -> None:
    """Whatever the order in which the mechanisms were asked."""
    small, large = find(labels.GIL_CONTENTION, 0.2), find(labels.CPU_QUOTA_THROTTLING, 0.6)
    assert primary_of(small, large) is labels.CPU_QUOTA_THROTTLING
    assert primary_of(large, small) is labels.CPU_QUOTA_THROTTLING


def test_gains_that_the_replay_cannot_tell_apart_keep_the_order_of_the_labels() -> None:
    """Causes come before symptoms, and the verdict does not flap between equals."""
    first, second = find(labels.CPU_QUOTA_THROTTLING, 0.50), find(labels.GIL_CONTENTION, 0.51)
    assert primary_of(first, second) is labels.CPU_QUOTA_THROTTLING


def test_queueing_is_an_effect_of_a_cause_that_frees_the_servers() -> None:
    """Without the throttling the servers would be half busy: nobody would queue."""
    kept, ruled_out = rank(
        [find(labels.CPU_QUOTA_THROTTLING, 0.4), find(labels.INSUFFICIENT_PARALLELISM, 0.9)]
    )
    assert [f.label for f in kept] == [labels.CPU_QUOTA_THROTTLING]
    assert [(r.label, r.gate) for r in ruled_out] == [
        (labels.INSUFFICIENT_PARALLELISM, "exclusion")
    ]
    assert "cpu_quota_throttling" in ruled_out[0].reason


def test_queueing_stays_where_removing_the_cause_would_leave_the_servers_busy() -> None:
    """Both are told, the larger gain first."""
    kept, _ = rank(
        [
            find(labels.CPU_QUOTA_THROTTLING, 0.3, utilization_after=0.95),
            find(labels.QUEUE_SATURATION, 0.8),
        ]
    )
    assert [f.label for f in kept] == [labels.QUEUE_SATURATION, labels.CPU_QUOTA_THROTTLING]


def test_composition_that_has_grown_explains_queueing() -> None:
    """A dependency three times as slow as usual is why requests queue."""
    kept, _ = rank(
        [
            find(labels.DOWNSTREAM_WAIT, 0.5, grown=3.0),
            find(labels.INSUFFICIENT_PARALLELISM, 0.9),
        ]
    )
    assert [f.label for f in kept] == [labels.DOWNSTREAM_WAIT]


def test_composition_without_a_reference_gives_way_to_larger_queueing() -> None:
    """Nobody knows whether the model is slow; that requests queue is certain."""
    kept, _ = rank(
        [
            find(labels.MODEL_HOT_LAYER, 0.9, share=0.3),
            find(labels.QUEUE_SATURATION, 0.5, share=0.6),
        ]
    )
    assert [f.label for f in kept] == [labels.QUEUE_SATURATION, labels.MODEL_HOT_LAYER]


def test_composition_without_a_reference_stays_before_smaller_queueing() -> None:
    """Then its larger gain decides."""
    assert (
        primary_of(
            find(labels.MODEL_HOT_LAYER, 0.9, share=0.7),
            find(labels.QUEUE_SATURATION, 0.5, share=0.2),
        )
        is labels.MODEL_HOT_LAYER
    )


def test_what_was_ruled_out_is_kept_with_its_reason() -> None:
    """Nothing that a mechanism said is lost."""
    told = RuledOut(labels.GIL_CONTENTION, "mechanism", "no late heartbeats")
    assert rank([told]) == ([], [told])
    assert rank([]) == ([], [])


def test_every_label_has_a_place() -> None:
    """Active labels that are not found now are ordered by it."""
    assert [order(label.type) for label in LABELS] == list(range(len(LABELS)))
