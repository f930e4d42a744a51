from __future__ import annotations

import re

from pinchpoint.detect.labels import COMPOSITION, LABELS, QUEUEING, STATES
from pinchpoint.detect.mechanisms import MECHANISMS

OWNERS = {"service", "platform", "dependency", "client"}


def test_label_strings_are_unique_and_apart_from_the_states() -> None:
    """They share one metric label."""
    types = [label.type for label in LABELS]
    assert len({*types, *STATES}) == len(types) + len(STATES)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", text) for text in (*types, *STATES))


def test_label_strings_are_stable() -> None:
    """They are API: dashboards, alerts and runbooks name them."""
    assert [label.type for label in LABELS] == [
        "cpu_quota_throttling",
        "gil_contention",
        "downstream_wait",
        "preprocess_cpu",
        "model_hot_layer",
        "insufficient_parallelism",
        "queue_saturation",
    ]


def test_there_is_one_mechanism_a_label_in_the_same_order_and_of_its_name() -> None:
    """A label without its test could never be given."""
    assert [mechanism.__name__ for mechanism in MECHANISMS] == [label.type for label in LABELS]


def test_every_label_has_an_owner_a_meaning_and_remedies_in_sentences() -> None:
    """Whoever reads it at night knows whose it is and what to do."""
    for label in LABELS:
        assert label.owner in OWNERS
        assert label.meaning.endswith(".")
        assert label.remedies
        assert all(remedy.endswith(".") for remedy in label.remedies)


def test_groups_of_labels_are_apart() -> None:
    """A label speaks of composition or of queueing, never of both."""
    assert not COMPOSITION & QUEUEING
    assert set(LABELS) >= COMPOSITION | QUEUEING
