"""Streams of the sync server: what the probe counts is what the client saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinchpoint.probe.process import ProcessProbe
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED, RequestEvent, StreamEvent
from pinchpoint.schema.terms import GAP_BOUNDS_NS, GRPC_CODES
from tests.support.rings import Contents, ring_with
from tests.support.servers import SERVICE, serving
from tests.support.truth import Messages, NotingPool, serving_from
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration

PAUSES_SECONDS = (0.3, 0.07, 0.07, 0.7, 0.07, 0.7)
"""Before every message. Of several buckets, and more than a second together."""

STREAM = f"/{SERVICE}/Stream"


def streams(contents: Contents) -> list[StreamEvent]:
    return [event for event in contents.events if isinstance(event, StreamEvent)]


def finished(ring_dir: Path, count: int = 1) -> tuple[list[RequestEvent], list[StreamEvent]]:
    ring = ring_with(ring_dir, lambda found: len(found.requests()) == count and streams(found))
    return ring.requests(), streams(ring)


def test_first_message_and_gaps_are_those_of_the_handler(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """Each message is on its way between its `yield` and the handler's next line."""
    pool, messages = NotingPool(), Messages()
    handled_ns: list[int] = []

    def paced(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        begin_ns = time.monotonic_ns()
        for seconds in PAUSES_SECONDS:
            time.sleep(seconds)
            messages.give()
            yield b"next"
            messages.taken()
        handled_ns.append(time.monotonic_ns() - begin_ns)

    handler: Any = grpc.unary_stream_rpc_method_handler(paced)
    with serving_from(pool, {"Stream": handler}) as channel:
        begin_ns = time.monotonic_ns()
        assert list(channel.unary_stream(STREAM)(b"x")) == [b"next"] * len(PAUSES_SECONDS)
        (request,), events = finished(ring_dir)

    (task,) = pool.tasks
    (first_ns,) = [e.first_message_ns for e in events if e.first_message_ns]
    assert messages.given_ns[0] - task.submitted_ns <= first_ns
    assert first_ns <= messages.taken_ns[0] - begin_ns
    gap_ns = sum(event.gap_ns for event in events)
    assert messages.shortest_whole_ns() <= gap_ns <= messages.longest_whole_ns()
    counts = [sum(column) for column in zip(*(event.gaps for event in events), strict=True)]
    assert sum(counts) == len(PAUSES_SECONDS) - 1
    for bound_ns, below in zip(GAP_BOUNDS_NS, accumulate(counts), strict=False):
        surely = sum(gap <= bound_ns for gap in messages.longest_gaps_ns())
        perhaps = sum(gap <= bound_ns for gap in messages.shortest_gaps_ns())
        assert surely <= below <= perhaps, bound_ns
    assert sum(event.sent for event in events) == len(PAUSES_SECONDS)
    assert len(events) > 1  # it lasts for more than a second, and is seen while it runs
    assert handled_ns[0] <= request.handler_ns <= task.ended_ns - task.begun_ns


def echo_all(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def count_all(requests: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(1 for _ in requests)


def three(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from (b"1", b"2", b"3")


def by_callback(_request: bytes, _context: Any, send: Callable[[Any], None]) -> None:
    for message in (b"1", b"2", None):
        send(message)


by_callback.experimental_non_blocking = True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("handler", "call", "received", "sent"),
    [
        (
            grpc.stream_stream_rpc_method_handler(echo_all),
            lambda channel: list(channel.stream_stream(STREAM)(iter([b"a"] * 40))),
            40,
            40,
        ),
        (
            grpc.stream_unary_rpc_method_handler(count_all),
            lambda channel: channel.stream_unary(STREAM)(iter([b"a"] * 25)),
            25,
            0,
        ),
        (
            grpc.unary_stream_rpc_method_handler(three),
            lambda channel: list(channel.unary_stream(STREAM)(b"a")),
            0,
            3,
        ),
        (
            grpc.unary_stream_rpc_method_handler(by_callback),
            lambda channel: list(channel.unary_stream(STREAM)(b"a")),
            0,
            2,
        ),
    ],
    ids=["bidi", "client", "server", "non-blocking"],
)
def test_messages_are_counted_one_by_one(
    probe: ProcessProbe, ring_dir: Path, handler: Any, call: Any, received: int, sent: int
) -> None:
    """The streaming side only: the other has one message, which the request's record tells."""
    with serving({"Stream": handler}) as served:
        call(served.channel)
        (request,), events = finished(ring_dir)
    assert sum(event.received for event in events) == received
    assert sum(event.sent for event in events) == sent
    assert GRPC_CODES[request.status] == "OK"


def test_a_stream_that_its_client_leaves_is_over_when_the_handler_is(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """Two messages were sent by then; the rest of its life is counted too."""
    left = threading.Event()

    def until_left(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(left.set)
        yield b"1"
        yield b"2"
        assert left.wait(LIMIT_SECONDS)
        yield b"never sent"

    with serving({"Stream": grpc.unary_stream_rpc_method_handler(until_left)}) as served:
        responses = served.channel.unary_stream(STREAM)(b"x")
        assert [next(responses), next(responses)] == [b"1", b"2"]
        responses.cancel()
        (request,), events = finished(ring_dir)
    assert GRPC_CODES[request.status] == "CANCELLED"
    assert sum(event.sent for event in events) == 2


def test_a_message_that_came_too_late_was_not_sent(probe: ProcessProbe, ring_dir: Path) -> None:
    """It is dropped: the client had given up before the first."""
    late = threading.Event()

    def too_late(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        over = threading.Event()
        if context.add_callback(over.set):
            assert over.wait(LIMIT_SECONDS)
        late.set()
        yield b"too late"

    def expires() -> bool:
        with pytest.raises(grpc.RpcError):
            list(served.channel.unary_stream(STREAM)(b"x", timeout=0.2))
        return late.is_set()

    with serving({"Stream": grpc.unary_stream_rpc_method_handler(too_late)}) as served:
        assert until(expires)
        ring = ring_with(
            ring_dir, lambda found: any(r.flags & FLAG_BEHAVIOUR_CALLED for r in found.requests())
        )
    assert {GRPC_CODES[r.status] for r in ring.requests()} == {"DEADLINE_EXCEEDED"}
    assert streams(ring) == []


def test_a_non_blocking_stream_ends_when_its_messages_do(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The handler returns at once and sends from a thread of its own."""
    go = threading.Event()

    def from_a_thread(_request: bytes, _context: Any, send: Callable[[Any], None]) -> None:
        def run() -> None:
            assert go.wait(LIMIT_SECONDS)
            for message in (b"1", b"2", b"3", None):
                send(message)

        threading.Thread(target=run).start()

    from_a_thread.experimental_non_blocking = True  # type: ignore[attr-defined]
    handler: Any = grpc.unary_stream_rpc_method_handler(from_a_thread)
    with serving({"Stream": handler}) as served:
        responses = served.channel.unary_stream(STREAM)(b"x")
        assert until(lambda: len(probe._active) == 1)
        go.set()
        assert list(responses) == [b"1", b"2", b"3"]
        (request,), events = finished(ring_dir)
    assert GRPC_CODES[request.status] == "OK"
    assert sum(event.sent for event in events) == 3
    assert not probe._active


def test_a_stream_that_fails_keeps_what_it_sent(probe: ProcessProbe, ring_dir: Path) -> None:
    """An exception after the first message."""

    def broken(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"1"
        context.abort(grpc.StatusCode.DATA_LOSS, "enough")

    with serving({"Stream": grpc.unary_stream_rpc_method_handler(broken)}) as served:
        with pytest.raises(grpc.RpcError):
            list(served.channel.unary_stream(STREAM)(b"x"))
        (request,), events = finished(ring_dir)
    assert GRPC_CODES[request.status] == "DATA_LOSS"
    assert sum(event.sent for event in events) == 1
