from __future__ import annotations

import json

import pytest

from pinchpoint.detect.verdict import Verdict
from pinchpoint.expose.api import verdict_json
from pinchpoint.schema.terms import COMPONENTS
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.observations import known
from tests.unit.detect.faults import FAULTS

EVIDENCE_KEYS = {"name", "value", "unit", "threshold", "comparison", "text"}
KEYS = {
    "schema",
    "time_seconds",
    "window_seconds",
    "state",
    "primary",
    "active",
    "ruled_out",
    "decomposition",
    "traffic",
    "signals",
}
PRIMARY_KEYS = {
    "type",
    "state",
    "owner",
    "subtype",
    "meaning",
    "since_seconds",
    "summary",
    "share_ratio",
    "evidence",
    "remedies",
    "symptom",
    "whatif",
}


def test_nothing_observed_is_a_whole_document() -> None:
    """With nulls for what is not known."""
    document = verdict_json(Snapshot(verdict=Verdict(0, 0, reason="nothing"), agent=AgentFacts()))
    assert set(document) == KEYS
    assert set(document["primary"]) == PRIMARY_KEYS
    assert document["decomposition"] is None
    assert document["traffic"]["mean_seconds"] is None
    assert document["primary"]["summary"] == "nothing"


@pytest.mark.parametrize("label", FAULTS)
def test_a_bottleneck_is_told_with_its_evidence_and_remedies(label: str) -> None:
    """The same keys as for a state, and a document that any JSON parser reads."""
    learned, fault = FAULTS[label]
    scene = known(learned)
    scene.run(fault, 12)
    document = verdict_json(scene.pipeline.snapshot(AgentFacts()))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    primary = document["primary"]
    assert set(document) == KEYS
    assert set(primary) == PRIMARY_KEYS
    assert primary == document["active"][0]
    assert (document["state"], primary["type"]) == ("bottleneck", label)
    assert primary["since_seconds"] > 0
    assert primary["remedies"]
    assert primary["whatif"]["mean_latency_reduction_ratio"] > 0.1
    assert set(primary["evidence"][0]) == EVIDENCE_KEYS
    parts = document["decomposition"]["components"]
    assert [part["name"] for part in parts] == list(COMPONENTS)
    assert sum(part["share_ratio"] for part in parts) == pytest.approx(1.0)
    told = {item["type"] for item in document["ruled_out"]}
    assert label not in told
    assert all(item["gate"] and item["reason"] for item in document["ruled_out"])
