from __future__ import annotations

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import (
    FLAG_BEHAVIOUR_CALLED,
    FLAG_REJECTED,
    FLAG_RESPONDED,
    StageTime,
    StreamEvent,
)
from pinchpoint.schema.observations import SourceClosed
from pinchpoint.schema.samples import MethodSample
from pinchpoint.schema.terms import GRPC_CODES, GRPC_TYPES, OTHER, SERVER_FAULT_CODES
from pinchpoint.schema.wire import GAP_COUNTS
from pinchpoint.snapshot import MethodTotals
from tests.support.observations import request
from tests.unit.pipeline.feeding import CAPS, FLOOD, call, fed, feed, method, shown

UNAVAILABLE = GRPC_CODES.index("UNAVAILABLE")
NOT_FOUND = GRPC_CODES.index("NOT_FOUND")


def only(pipeline: Pipeline) -> MethodTotals:
    (totals,) = shown(pipeline).methods
    return totals


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
    totals = only(fed(method("/a.A/One", call_type=2)))
    assert totals.grpc_type == "server_stream"
    assert totals.handled == dict.fromkeys(("OK", *SERVER_FAULT_CODES), 0)
    assert (totals.started, totals.in_flight) == (0, 0)
    assert totals.request.count == totals.handling.count == totals.queue.count == 0


def test_latency_handling_and_queueing_are_told_apart() -> None:
    """27 ms in all, of which 3 in the queue and 20 in the handler."""
    totals = only(fed(method("/a.A/One"), call()))
    assert totals.request.sum == pytest.approx(0.027)
    assert totals.handling.sum == pytest.approx(0.020)
    assert totals.queue.sum == pytest.approx(0.003)


def test_what_never_reached_its_handler_has_no_time_there() -> None:
    """It has waited all the same."""
    totals = only(fed(method("/a.A/One"), call(status=UNAVAILABLE, flags=0)))
    assert totals.handled["UNAVAILABLE"] == 1
    assert (totals.request.count, totals.queue.count, totals.handling.count) == (1, 1, 0)


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
    assert len(methods) == CAPS.methods + 1
    other = next(m for m in methods if m.method == OTHER)
    assert other.handled["OK"] == FLOOD - CAPS.methods
    assert sum(m.handled["OK"] for m in methods) == FLOOD


# Messages


def stream(call_type: str, received: int, sent: int) -> StreamEvent:
    return StreamEvent(GRPC_TYPES.index(call_type), 1, received, sent, 0, 0, 0, (0,) * GAP_COUNTS)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED, (1, 1)),
        (FLAG_BEHAVIOUR_CALLED, (1, 0)),
        (0, (0, 0)),
        (FLAG_REJECTED, (0, 0)),
    ],
)
def test_an_rpc_without_streams_has_a_message_each_way_at_most(
    flags: int, expected: tuple[int, int]
) -> None:
    """The request reached the handler; a response was handed over."""
    totals = only(fed(method("/a.A/One"), call(flags=flags)))
    assert (totals.received, totals.sent) == expected


@pytest.mark.parametrize(
    ("grpc_type", "streamed", "expected"),
    [
        ("client_stream", (10, 0), (10, 1)),
        ("server_stream", (0, 7), (1, 7)),
        ("bidi_stream", (5, 2), (5, 2)),
    ],
)
def test_messages_of_a_stream_are_those_that_went_through_it(
    grpc_type: str, streamed: tuple[int, int], expected: tuple[int, int]
) -> None:
    """In several records while it lasts; the way that is no stream has one."""
    call_type = GRPC_TYPES.index(grpc_type)
    received, sent = streamed
    totals = only(
        fed(
            method("/a.A/One", call_type=call_type),
            stream(grpc_type, received and 1, sent and 1),
            call(call_type=call_type),
            stream(grpc_type, received and received - 1, sent and sent - 1),
        )
    )
    assert totals.grpc_type == grpc_type
    assert (totals.received, totals.sent) == expected


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
    names = [method(f"/a.A/M{i}", i + 1) for i in range(CAPS.methods + 2)]
    pipeline = fed(*names, running(CAPS.methods + 1, 2), running(CAPS.methods + 2, 3))
    other = next(m for m in shown(pipeline).methods if m.method == OTHER)
    assert other.in_flight == 5
    feed(pipeline, running(1, 1))
    feed(pipeline, names[0], running(1, 4), source=2)
    assert shown(pipeline).methods[1].in_flight == 5
