from __future__ import annotations

import pytest

from pinchpoint.schema.events import StreamEvent
from pinchpoint.schema.terms import GAP_BOUNDS_NS, GRPC_TYPES, HTTP_STREAM
from tests.support.observations import MILLISECOND_NS, gaps
from tests.unit.pipeline.feeding import fed, shown

SERVER_STREAM = GRPC_TYPES.index("server_stream")


def stream(first_ms: int, gap_ms: int = 0, *counts: tuple[int, int]) -> StreamEvent:
    return StreamEvent(
        SERVER_STREAM, 1, 0, 1, 0, first_ms * MILLISECOND_NS, gap_ms * MILLISECOND_NS, gaps(*counts)
    )


def test_a_stream_has_one_first_message_however_many_records() -> None:
    """Those that come later carry a zero."""
    first = shown(fed(stream(30), stream(0), stream(0), stream(70))).first_message
    assert (first.count, first.sum) == pytest.approx((2, 0.1))


def test_gaps_are_added_up_by_the_bounds_that_they_were_counted_by() -> None:
    """The last bucket is what is above all of them."""
    gap = shown(fed(stream(1, 25, (6, 3)), stream(0, 20_000, (6, 1), (16, 1)))).message_gap
    assert gap.bounds == tuple(bound_ns / 1e9 for bound_ns in GAP_BOUNDS_NS)
    assert (gap.counts[6], gap.counts[16], gap.count) == (4, 1, 5)
    assert gap.sum == pytest.approx(20.025)


def test_streams_over_http_are_streams() -> None:
    """Without a method that would count their messages."""
    snapshot = shown(fed(stream(30, 5, (5, 1))._replace(call_type=HTTP_STREAM)))
    assert (snapshot.first_message.count, snapshot.message_gap.count) == (1, 1)
    assert snapshot.methods == ()
