from __future__ import annotations

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.pipeline.traffic import LAYERS_MAX, METHODS_MAX, MODELS_MAX
from pinchpoint.schema.events import FLAG_REJECTED, ForwardEvent, LayerEvent, StageTime
from pinchpoint.schema.observations import Name, NameKind, Observation, Record, SourceClosed
from pinchpoint.schema.samples import MethodSample
from pinchpoint.schema.terms import GRPC_CODES, OTHER, SERVER_FAULT_CODES
from pinchpoint.snapshot import AgentFacts, MethodTotals, Snapshot
from tests.support.observations import MILLISECOND_NS, request

FLOOD = 10_000
UNAVAILABLE = GRPC_CODES.index("UNAVAILABLE")
NOT_FOUND = GRPC_CODES.index("NOT_FOUND")


def method(text: str, name_id: int = 1, grpc_type: int = 0) -> Name:
    return Name(name_id, NameKind.METHOD, grpc_type, text)


def fed(*records: Record) -> Pipeline:
    """A pipeline that has seen records of source 1."""
    pipeline = Pipeline()
    feed(pipeline, *records)
    return pipeline


def feed(pipeline: Pipeline, *records: Record, source: int = 1) -> None:
    for record in records:
        pipeline.feed(Observation(source, record))


def shown(pipeline: Pipeline) -> Snapshot:
    return pipeline.snapshot(AgentFacts())


def only(pipeline: Pipeline) -> MethodTotals:
    (totals,) = shown(pipeline).methods
    return totals


def call(name_id: int = 1, status: int = 0, grpc_type: int = 0, flags: int | None = None) -> Record:
    stages = {
        "queue": StageTime(3 * MILLISECOND_NS, 0, 0),
        "handler": StageTime(20 * MILLISECOND_NS, 0, 0),
        "send": StageTime(4 * MILLISECOND_NS, 0, 0),
    }
    event, _ = request(0, stages, status=status, grpc_type=grpc_type, method_id=name_id)
    return event if flags is None else event._replace(flags=flags)


def test_requests_are_counted_by_method_and_code() -> None:
    """Every finished request, under its own method."""
    pipeline = fed(
        method("/a.A/One", 1), method("/a.A/Two", 2),
        call(1), call(1), call(1, UNAVAILABLE), call(2, NOT_FOUND),
    )  # fmt: skip
    one, two = shown(pipeline).methods
    assert (one.service, one.method) == ("a.A", "One")
    assert (one.handled["OK"], one.handled["UNAVAILABLE"]) == (2, 1)
    assert (two.handled["OK"], two.handled["NOT_FOUND"]) == (0, 1)


def test_zeros_are_exported_as_soon_as_a_method_is_declared() -> None:
    """A rate of errors over nothing is zero and not absent."""
    totals = only(fed(method("/a.A/One", grpc_type=2)))
    assert totals.grpc_type == "server_stream"
    assert totals.handled == dict.fromkeys(("OK", *SERVER_FAULT_CODES), 0)
    assert (totals.started, totals.in_flight) == (0, 0)
    assert totals.request.count == totals.handling.count == totals.queue.count == 0


def test_rejections_are_exported_as_zeros_up_front() -> None:
    """All their reasons are known."""
    expected = {"unknown_method": 0, "concurrency_limit": 0, "error": 0}
    assert shown(Pipeline()).rejected == expected


def test_latency_handling_and_queueing_are_told_apart() -> None:
    """27 ms in all, of which 3 in the queue and 20 in the handler."""
    totals = only(fed(method("/a.A/One"), call()))
    assert totals.request.sum == pytest.approx(0.027)
    assert totals.handling.sum == pytest.approx(0.020)
    assert totals.queue.sum == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0010001, 1), (60.0, 17), (61.0, 18)]
)
def test_a_value_on_a_bound_belongs_to_its_bucket(seconds: float, bucket: int) -> None:
    """As `le` says; above the last bound there is one more."""
    event, _ = request(0, {"handler": StageTime(round(seconds * 1e9), 0, 0)})
    counts = only(fed(method("/a.A/One"), event)).request.counts
    assert [i for i, count in enumerate(counts) if count] == [bucket]


def test_rejected_requests_are_handled_but_have_no_latency() -> None:
    """They never reached the pool."""
    status = GRPC_CODES.index("RESOURCE_EXHAUSTED")
    pipeline = fed(method("/a.A/One"), call(status=status, flags=FLAG_REJECTED))
    assert shown(pipeline).rejected["concurrency_limit"] == 1
    totals = only(pipeline)
    assert totals.handled["RESOURCE_EXHAUSTED"] == 1
    assert totals.request.count == 0


def test_a_method_that_was_never_named_is_folded() -> None:
    """Clients make up method names; they are no label."""
    totals = only(fed(call(77)))
    assert (totals.service, totals.method) == (OTHER, OTHER)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("/a.A/One", "a.A/One", "//a.A/One/"), {("a.A", "One")}),
        (("plain",), {("plain", "plain")}),
        (("plain", "plain/plain"), {("plain", "plain")}),
        (("", "/", OTHER), {(OTHER, OTHER)}),
    ],
)
def test_names_that_give_the_same_labels_are_one_method(
    texts: tuple[str, ...], expected: set[tuple[str, str]]
) -> None:
    """Two series with the same labels would spoil a scrape."""
    pipeline = fed(*(method(text, i + 1) for i, text in enumerate(texts)))
    assert [(m.service, m.method) for m in shown(pipeline).methods] == sorted(expected)


def test_a_flood_of_methods_is_folded() -> None:
    """Ten thousand names make a bounded number of methods, and no request is lost."""
    names = [method(f"/a.A/M{i}", i + 1) for i in range(FLOOD)]
    pipeline = fed(*names, *(call(i + 1) for i in range(FLOOD)))
    methods = shown(pipeline).methods
    assert len(methods) == METHODS_MAX + 1
    other = next(m for m in methods if m.method == OTHER)
    assert other.handled["OK"] == FLOOD - METHODS_MAX
    assert sum(m.handled["OK"] for m in methods) == FLOOD


def test_a_flood_of_models_and_layers_is_folded() -> None:
    """The same of what a model is called and made of."""
    models = [Name(i + 1, NameKind.MODEL, 0, f"m{i}") for i in range(FLOOD)]
    layers = [Name(FLOOD + i + 1, NameKind.LAYER, 0, f"l{i}") for i in range(FLOOD)]
    forwards = [ForwardEvent(i + 1, 0, 4, 7, 0, MILLISECOND_NS) for i in range(FLOOD)]
    of_one = [LayerEvent(1, FLOOD + i + 1, 1, 5, 0, 1000, 1000) for i in range(FLOOD)]
    totals = shown(fed(*models, *layers, *forwards, *of_one)).models
    assert len(totals) == MODELS_MAX + 1
    assert sum(m.forward.count for m in totals) == FLOOD
    first = next(m for m in totals if m.model == "m0")
    assert len(first.layer_seconds) == LAYERS_MAX + 1
    assert sum(first.layer_seconds.values()) == pytest.approx(FLOOD * 1e-6)


def test_forwards_are_counted_with_their_batch_size() -> None:
    """A size that was not seen is no batch of zero."""
    name = Name(1, NameKind.MODEL, 0, "net")
    (model,) = shown(
        fed(name, ForwardEvent(1, 0, 8, 7, 0, MILLISECOND_NS), ForwardEvent(1, 0, 0, 7, 0, 1))
    ).models
    assert model.forward.count == 2
    assert (model.batch_size.count, model.batch_size.sum) == (1, 8.0)


def test_layers_of_one_forward_are_one_sample() -> None:
    """Whatever the number of layers; another source's forward is another."""
    layers = [LayerEvent(1, layer, 1, 5, 0, 10, 10) for layer in (2, 3)]
    pipeline = fed(*layers)
    feed(pipeline, *layers, source=2)
    assert [m.layer_samples for m in shown(pipeline).models] == [2]


def test_stages_are_weighted_to_all_requests() -> None:
    """A sample that stands for ten requests counts ten times."""
    _, detail = request(0, {"forward": StageTime(2 * MILLISECOND_NS, 0, 0)}, weight=10.0)
    stages = shown(fed(detail)).stage_seconds
    assert list(stages) == ["forward"]
    assert stages["forward"] == pytest.approx((10.0, 0.02))


# Started and in flight


def running(name_id: int, count: int) -> MethodSample:
    return MethodSample(0, name_id, in_flight=float(count))


def test_what_is_in_flight_has_started() -> None:
    """Handled and in flight make up what was started."""
    totals = only(fed(method("/a.A/One"), call(), running(1, 3)))
    assert (totals.started, totals.in_flight) == (4, 3)


def test_started_never_goes_back() -> None:
    """Requests that end between two readings of what is in flight are not counted twice."""
    pipeline = fed(method("/a.A/One"))
    seen = [0]
    for records in (
        [running(1, 5)],
        [call()] * 5,
        [running(1, 0)],
        [call()] * 2,
        [running(1, 1)],
        [call(), running(1, 0)],
    ):
        feed(pipeline, *records)
        seen.append(only(pipeline).started)
    assert seen == [0, 5, 5, 5, 7, 8, 8]


def test_started_keeps_what_a_dead_process_had_in_flight() -> None:
    """They started and were never handled; a restart does not take them back."""
    pipeline = fed(method("/a.A/One"), call(), running(1, 3))
    feed(pipeline, SourceClosed(0))
    assert (only(pipeline).started, only(pipeline).in_flight) == (4, 0)
    feed(pipeline, method("/a.A/One"), call(), source=2)
    assert only(pipeline).started == 5


def test_in_flight_is_summed_over_processes_and_over_folded_methods() -> None:
    """Methods beyond the cap share a series, not one value."""
    names = [method(f"/a.A/M{i}", i + 1) for i in range(METHODS_MAX + 2)]
    pipeline = fed(*names, running(METHODS_MAX + 1, 2), running(METHODS_MAX + 2, 3))
    other = next(m for m in shown(pipeline).methods if m.method == OTHER)
    assert other.in_flight == 5
    feed(pipeline, running(1, 1))
    feed(pipeline, names[0], running(1, 4), source=2)
    assert shown(pipeline).methods[1].in_flight == 5
