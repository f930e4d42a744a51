from __future__ import annotations

import pytest

from pinchpoint.pipeline.buckets import SIZE_BYTES
from pinchpoint.schema.events import RequestDetail, StageTime
from pinchpoint.schema.terms import HTTP
from pinchpoint.snapshot import Histogram
from tests.support.observations import MILLISECOND_NS, request
from tests.unit.pipeline.feeding import fed, shown


def sized(received: int | None, sent: int | None, weight: float = 1.0) -> RequestDetail:
    _, detail = request(0, {}, sizes=(received, sent), weight=weight)
    return detail


def test_stages_are_weighted_to_all_requests() -> None:
    """A sample that stands for ten requests counts ten times."""
    _, detail = request(0, {"forward": StageTime(2 * MILLISECOND_NS, 0, 0)}, weight=10.0)
    stages = shown(fed(detail)).stages
    assert list(stages) == ["forward"]
    assert (stages["forward"].count, stages["forward"].sum) == pytest.approx((10, 0.02))


def test_sizes_are_weighted_to_all_requests() -> None:
    """By the same bounds either way; on a bound belongs to it."""
    snapshot = shown(fed(sized(256, 1_025, weight=10.0), sized(100_000_000, 0)))
    counts = snapshot.received_bytes.counts
    assert {i: count for i, count in enumerate(counts) if count} == {0: 10, len(SIZE_BYTES): 1}
    assert snapshot.received_bytes.sum == 10 * 256 + 100_000_000
    counts = snapshot.sent_bytes.counts
    assert {i: count for i, count in enumerate(counts) if count} == {2: 10, 0: 1}


def test_a_size_that_nobody_saw_is_none() -> None:
    """Not one of zero bytes."""
    snapshot = shown(fed(sized(None, 512), sized(None, None)))
    assert (snapshot.received_bytes.count, snapshot.sent_bytes.count) == (0, 1)


def test_stages_and_time_of_http_requests_are_counted_like_those_of_rpcs() -> None:
    """Their time is split by component at the next verdict."""
    _, detail = request(0, {"handler": StageTime(MILLISECOND_NS, 0, 0)}, call_type=HTTP, status=200)
    assert shown(fed(detail)).stages == {"handler": Histogram((), (1,), 0.001)}
