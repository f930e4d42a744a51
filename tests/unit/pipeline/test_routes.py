from __future__ import annotations

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.observations import SourceClosed
from pinchpoint.schema.samples import MethodSample
from pinchpoint.schema.terms import HTTP, HTTP_STREAM, OTHER
from pinchpoint.snapshot import RouteTotals
from tests.unit.pipeline.feeding import CAPS, FLOOD, call, fed, feed, method, shown

PREDICT = method("POST /predict", 1, HTTP)


def only(pipeline: Pipeline) -> RouteTotals:
    (totals,) = shown(pipeline).routes
    return totals


def test_requests_are_counted_by_route_and_status() -> None:
    """And are no RPCs."""
    pipeline = fed(PREDICT, *(call(1, status, HTTP) for status in (200, 200, 422)))
    totals = only(pipeline)
    assert (totals.http_method, totals.route) == ("POST", "/predict")
    assert {s: h.count for s, h in totals.durations.items()} == {"200": 2, "422": 1}
    assert totals.durations["422"].sum == pytest.approx(0.027)
    assert (totals.request.count, totals.queue.count) == (3, 3)
    assert shown(pipeline).methods == ()


def test_a_request_without_a_response_has_no_status() -> None:
    """Its client left, or the server broke off."""
    assert list(only(fed(PREDICT, call(1, 0, HTTP))).durations) == [""]


def test_a_route_that_streams_its_responses_is_the_same_route() -> None:
    """Whether a body comes in one piece is known only when it comes."""
    totals = only(fed(PREDICT, call(1, 200, HTTP), call(1, 200, HTTP_STREAM)))
    assert totals.durations["200"].count == 2


def test_a_declared_route_is_there_before_its_first_request() -> None:
    """With zeros, but for the statuses, which nobody can know."""
    totals = only(fed(PREDICT))
    assert (totals.request.count, totals.in_flight, totals.durations) == (0, 0, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /items/{item_id}", ("GET", "/items/{item_id}")),
        ("GET /a b", ("GET", "/a b")),
        ("GET", ("GET", OTHER)),
        ("GET ", ("GET", OTHER)),
        ("", (OTHER, OTHER)),
        (OTHER, (OTHER, OTHER)),
    ],
)
def test_a_name_is_method_and_route(text: str, expected: tuple[str, str]) -> None:
    """What is missing of it is `_OTHER`."""
    totals = only(fed(method(text, 1, HTTP)))
    assert (totals.http_method, totals.route) == expected


def test_a_route_that_was_never_named_is_folded() -> None:
    """Clients make up paths; they are no label."""
    totals = only(fed(call(77, 404, HTTP)))
    assert (totals.http_method, totals.route) == (OTHER, OTHER)


def test_a_flood_of_statuses_is_folded() -> None:
    """Each would be a histogram; no request is lost."""
    durations = only(fed(PREDICT, *(call(1, s, HTTP) for s in range(100, 600)))).durations
    assert len(durations) == CAPS.statuses + 1
    assert durations[OTHER].count == 500 - CAPS.statuses


def test_routes_and_methods_share_their_limit() -> None:
    """A server of both kinds makes no more series than one of either."""
    names = [
        method(f"/a.A/M{i}", i + 1) if i % 2 else method(f"GET /{i}", i + 1, HTTP)
        for i in range(FLOOD)
    ]
    snapshot = shown(fed(*names, call(FLOOD, 0), call(FLOOD - 1, 200, HTTP)))
    assert len(snapshot.methods) + len(snapshot.routes) == CAPS.methods + 2
    assert [r.request.count for r in snapshot.routes if r.route == OTHER] == [1]
    assert [m.request.count for m in snapshot.methods if m.method == OTHER] == [1]


def test_what_is_in_flight_is_that_of_living_processes() -> None:
    """As of methods."""
    pipeline = fed(PREDICT, MethodSample(0, 1, in_flight=3.0))
    feed(pipeline, PREDICT, MethodSample(0, 1, in_flight=2.0), source=2)
    assert only(pipeline).in_flight == 5
    feed(pipeline, SourceClosed(0))
    assert only(pipeline).in_flight == 2
