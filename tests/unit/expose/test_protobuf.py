from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.protobuf import encode
from pinchpoint.expose.state import PublishedState
from pinchpoint.pipeline.buckets import FINE_SECONDS, Buckets
from pinchpoint.snapshot import ZERO_THRESHOLD, AgentFacts, Snapshot
from tests.support.observations import known
from tests.unit.expose.client_model import ClientModel, native_buckets, samples

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ClientModel:
    return ClientModel(tmp_path_factory.mktemp("client_model"))


def published(buckets: Buckets) -> PublishedState:
    """A busy service, and one histogram made by hand."""
    snapshot: Snapshot = known().pipeline.snapshot(AgentFacts(cpu_seconds=1.25))
    return PublishedState(replace(snapshot, message_gap=buckets.freeze()))


def gap(model: ClientModel, buckets: Buckets) -> Any:
    collector = SnapshotCollector(published(buckets), ["pinchpoint_request_message_gap_seconds"])
    (family,) = model.families(encode(collector.filled(), "underscores"))
    (metric,) = family.metric
    return metric.histogram


def test_protobuf_says_what_the_text_says(model: ClientModel) -> None:
    """Sample by sample, of all families; names, types and help too."""
    buckets = Buckets(FINE_SECONDS, native=True)
    buckets.observe(0.003, 5)
    collector = SnapshotCollector(published(buckets))
    text = list(text_string_to_metric_families(generate_latest(collector).decode()))
    found = list(model.families(encode(collector.filled(), "underscores")))
    expected = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text
        for sample in family.samples
    }
    assert len(expected) > 100
    assert samples(iter(found)) == expected
    kinds = {0: "counter", 1: "gauge", 4: "histogram"}
    assert [(f.name.removesuffix("_total"), kinds[f.type], f.help) for f in found] == [
        (f.name, f.type, f.documentation) for f in text
    ]


def test_an_exemplar_travels_with_its_bucket(model: ClientModel) -> None:
    """Its trace, its value and its time."""
    buckets = Buckets(FINE_SECONDS)
    buckets.observe(0.003)
    buckets.exemplify(0.003, TRACE, 1_800_000_000.25)
    (found,) = (b for b in gap(model, buckets).bucket if b.HasField("exemplar"))
    assert found.upper_bound == 0.005
    assert [(pair.name, pair.value) for pair in found.exemplar.label] == [("trace_id", TRACE)]
    assert found.exemplar.value == 0.003
    time = found.exemplar.timestamp
    assert (time.seconds, time.nanos) == (1_800_000_000, 250_000_000)


@given(st.lists(st.floats(min_value=0.0, max_value=1e4), min_size=1, max_size=40))
def test_native_buckets_arrive_as_they_were_counted(
    model: ClientModel, values: list[float]
) -> None:
    """Spans and deltas hold the counts, gaps between buckets included."""
    buckets = Buckets(FINE_SECONDS, native=True)
    for value in values:
        buckets.observe(value)
    native = buckets.freeze().native
    assert native is not None
    histogram = gap(model, buckets)
    assert native_buckets(histogram) == native.counts
    told = (histogram.schema, histogram.zero_threshold, histogram.zero_count)
    assert told == (native.schema, ZERO_THRESHOLD, native.zero_count)


def test_a_classic_histogram_is_not_taken_for_a_native_one(model: ClientModel) -> None:
    """Scrapers go by the zero threshold, the spans and the schema."""
    buckets = Buckets(FINE_SECONDS)
    buckets.observe(0.003)
    histogram = gap(model, buckets)
    fields = {descriptor.name for descriptor, _ in histogram.ListFields()}
    assert fields == {"sample_count", "sample_sum", "bucket"}


def test_names_are_escaped_as_asked(model: ClientModel) -> None:
    """With dots for dots, underscores are doubled."""
    collector = SnapshotCollector(published(Buckets(FINE_SECONDS)), ["grpc_server_started_total"])
    (family,) = model.families(encode(collector.filled(), "dots"))
    assert family.name == "grpc__server__started__total"
    assert {pair.name for pair in family.metric[0].label} == {
        "grpc__type", "grpc__service", "grpc__method"
    }  # fmt: skip


def test_every_kind_of_family_can_be_encoded() -> None:
    """A new kind would fail here, not in production."""
    assert {family.kind for family in FAMILIES} == {"counter", "gauge", "histogram"}
