from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.state import PublishedState
from pinchpoint.expose.web_families import scrape_families
from pinchpoint.pipeline.buckets import FINE_SECONDS, Buckets
from pinchpoint.snapshot import AgentFacts
from tests.support.observations import known

TRACE = "0af7651916cd43dd8448eb211c80319c"
GAP = "pinchpoint_request_message_gap_seconds"


@pytest.fixture(scope="module")
def state() -> PublishedState:
    buckets = Buckets(FINE_SECONDS)
    buckets.observe(0.003)
    buckets.exemplify(0.003, TRACE, 1_800_000_000.25)
    snapshot = known().pipeline.snapshot(AgentFacts())
    return PublishedState(replace(snapshot, message_gap=buckets.freeze()))


def names(state: PublishedState, *wanted: str) -> list[str]:
    return [family.name for family in SnapshotCollector(state, wanted).collect()]


def test_all_families_are_given_unless_some_are_named(state: PublishedState) -> None:
    """Those of scraping itself come last."""
    found = names(state)
    assert len(found) > 30
    assert found[-2:] == ["pinchpoint_scrapes", "pinchpoint_scrape_errors"]


@pytest.mark.parametrize("suffix", ["", "_bucket", "_count", "_sum"])
def test_a_histogram_is_selected_whole_by_any_of_its_names(
    state: PublishedState, suffix: str
) -> None:
    """A part of one is no valid histogram in any format."""
    (family,) = SnapshotCollector(state, [GAP + suffix]).collect()
    assert family.name == GAP
    assert {s.name.removeprefix(GAP) for s in family.samples} == {"_bucket", "_count", "_sum"}


def test_several_families_are_selected_by_several_names(state: PublishedState) -> None:
    """Counters by the name of their samples or their own; in the order of the exposition."""
    wanted = ("pinchpoint_scrapes_total", "grpc_server_started", "pinchpoint_rings")
    assert names(state, *wanted) == [
        "grpc_server_started",
        "pinchpoint_rings",
        "pinchpoint_scrapes",
    ]


@pytest.mark.parametrize("name", ["", "nothing", f"{GAP}_total", "pinchpoint_rings_total", "pinch"])
def test_a_name_that_is_none_selects_nothing(state: PublishedState, name: str) -> None:
    """Neither a part of a name nor another kind's suffix is one."""
    assert names(state, name) == []


def test_a_family_without_a_series_is_left_out_whole(state: PublishedState) -> None:
    """Its help too, in every format."""
    assert state.snapshot is not None
    empty = PublishedState(replace(state.snapshot, models=()))
    assert b"pinchpoint_forward_seconds" in generate_latest(SnapshotCollector(state))
    assert b"pinchpoint_forward_seconds" not in generate_latest(SnapshotCollector(empty))
    found = [family.name for family, _ in SnapshotCollector(empty).filled()]
    assert "pinchpoint_forward_seconds" not in found


def test_exemplars_are_in_open_metrics_and_not_in_text(state: PublishedState) -> None:
    """The old format has no place for them."""
    collector = SnapshotCollector(state)
    assert TRACE.encode() not in generate_latest(collector)
    text = openmetrics_latest(collector).decode()  # type: ignore[no-untyped-call]
    families = open_metrics(text)  # type: ignore[no-untyped-call]
    found = [
        (sample.name, sample.labels["le"], sample.exemplar)
        for family in families
        for sample in family.samples
        if sample.exemplar
    ]
    ((name, bound, exemplar),) = found
    assert (name, bound) == (f"{GAP}_bucket", "0.005")
    assert (exemplar.labels, exemplar.value) == ({"trace_id": TRACE}, 0.003)
    assert float(exemplar.timestamp) == 1_800_000_000.25


def test_units_are_told_in_open_metrics(state: PublishedState) -> None:
    """Those that end the names."""
    text = openmetrics_latest(SnapshotCollector(state)).decode()  # type: ignore[no-untyped-call]
    assert f"# UNIT {GAP} seconds\n" in text
    assert "# UNIT pinchpoint_rings" not in text


def test_scrapes_are_counted_from_zero(state: PublishedState) -> None:
    """A counter that first appears at 1 has no rate."""
    stats = PublishedState().scrapes
    families = {family.name: family for family in scrape_families(stats)}

    def points(name: str) -> list[object]:
        assert state.snapshot is not None
        return list(families[name].points(state.snapshot))

    assert points("pinchpoint_scrapes") == [(("200",), 0)]
    assert points("pinchpoint_scrape_errors") == [((), 0)]
    assert points("pinchpoint_scrape_duration_seconds") == []
    stats.answered(200, 0.25)
    stats.answered(500, 0.5)
    stats.failed()
    assert points("pinchpoint_scrapes") == [(("200",), 1), (("500",), 1)]
    assert points("pinchpoint_scrape_errors") == [((), 1)]
    assert points("pinchpoint_scrape_duration_seconds") == [((), 0.5)]
