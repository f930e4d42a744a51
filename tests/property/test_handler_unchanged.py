"""Whatever the handler does, its client cannot tell whether the probe is there."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinchpoint.probe.process import ProcessProbe
from tests.support.rings import the_ring
from tests.support.servers import SERVICE, Served, number, serving
from tests.support.waiting import LIMIT_SECONDS, until

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
CODES = list(grpc.StatusCode)


def read(data: bytes) -> Any:
    return json.loads(data)


def write(response: Any) -> bytes:
    if response == "unwritable":
        raise ValueError("cannot write this")
    if response == "nothing":
        return None  # type: ignore[return-value]  # a defective serialiser
    return json.dumps(response).encode()


def act(plan: Any, context: grpc.ServicerContext) -> list[Any]:
    """Do as the plan says; the responses to give are what is returned."""
    if plan["metadata"]:
        context.set_trailing_metadata((("trailing", plan["metadata"]),))
        context.send_initial_metadata((("initial", plan["metadata"]),))
    if plan["code"] is not None:
        code = plan["code"]
        context.set_code(code if plan["bare_number"] else CODES[code])
        context.set_details(plan["details"])
    if plan["end"] == "abort":
        context.abort(CODES[plan["abort"]], plan["details"])
    if plan["end"] == "raise":
        raise RuntimeError(plan["details"])
    responses: list[Any] = plan["responses"]
    return [*responses, *(["x" * plan["bytes"]] if plan["bytes"] else [])]


def give(plan: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    if plan["late"]:
        yield "early"
    yield from act(plan, context)


def handlers() -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    ends = {"request_deserializer": read, "response_serializer": write}

    def first(plan: Any, context: grpc.ServicerContext) -> Any:
        return next(iter(act(plan, context)), None)

    return {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(first, **ends),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(give, **ends),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(
            lambda plans, context: first(list(plans)[-1], context), **ends
        ),
        "StreamStream": grpc.stream_stream_rpc_method_handler(
            lambda plans, context: give(list(plans)[-1], context), **ends
        ),
    }


def outcome(channel: Any, kind: str, requests: list[bytes]) -> Any:
    """Everything that the client of an RPC can see."""
    path = f"/{SERVICE}/{kind}"
    received: list[bytes] = []
    try:
        if kind == "UnaryUnary":
            response, call = channel.unary_unary(path).with_call(requests[-1])
            received.append(response)
        elif kind == "StreamUnary":
            response, call = channel.stream_unary(path).with_call(iter(requests))
            received.append(response)
        else:
            if kind == "UnaryStream":
                call = channel.unary_stream(path)(requests[-1])
            else:
                call = channel.stream_stream(path)(iter(requests))
            received.extend(call)
    except grpc.RpcError as error:
        call = error  # a failed call is its own error
    metadata = [
        [(key, value) for key, value in found or () if key in ("initial", "trailing")]
        for found in (call.initial_metadata(), call.trailing_metadata())
    ]
    return call.code(), call.details(), received, metadata


@pytest.fixture
def both(probe: ProcessProbe) -> Iterator[tuple[Served, Served]]:
    """The same service twice: as it is, and under the probe."""
    logging.disable(logging.CRITICAL)
    probe._grpc.part.enabled = False
    with serving(handlers()) as plain:
        probe._grpc.part.enabled = True
        with serving(handlers()) as probed:
            yield plain, probed
    logging.disable(logging.NOTSET)


RESPONSES = st.lists(
    st.sampled_from(["", "ok", "unwritable", "nothing", None]) | st.text(max_size=5), max_size=3
)
PLANS = st.fixed_dictionaries(
    {
        "end": st.sampled_from(["return", "return", "abort", "raise"]),
        "responses": RESPONSES,
        "code": st.none() | st.integers(0, len(CODES) - 1),
        "bare_number": st.booleans(),
        "abort": st.integers(0, len(CODES) - 1),
        "details": st.text(st.characters(codec="ascii", min_codepoint=32), max_size=8),
        "metadata": st.sampled_from(["", "value"]),
        "late": st.booleans(),
        "bytes": st.sampled_from([0, 0, 1, 20_000, 300_000]),
        "ballast": st.sampled_from([0, 0, 20_000, 300_000]).map(lambda size: "x" * size),
    }
)
REQUESTS = st.lists(PLANS.map(lambda plan: json.dumps(plan).encode()), min_size=1, max_size=3)
ANY_REQUESTS = REQUESTS | REQUESTS | st.just([b"not json"])
WITH_A_FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@given(kind=st.sampled_from(KINDS), requests=ANY_REQUESTS)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=WITH_A_FIXTURE,
)
def test_an_rpc_is_the_same_with_the_probe_and_recorded_once_as_seen(
    both: tuple[Served, Served], ring_dir: Path, kind: str, requests: list[bytes]
) -> None:
    """Responses, status, details and metadata agree; one record has the client's status."""
    plain, probed = both
    before = len(the_ring(ring_dir).requests()) if any(ring_dir.iterdir()) else 0

    expected = outcome(plain.channel, kind, requests)
    seen = outcome(probed.channel, kind, requests)

    assert seen == expected
    recorded = until(lambda: the_ring(ring_dir).requests()[before:])
    assert [record.status for record in recorded] == [number(seen[0])]


# The client gives up


class Held:
    """Handlers that stand still until their RPC ends, and what each of them has seen."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def wait_for_the_end(self, context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        if not context.add_callback(ended.set):
            ended.set()
        self.said.append("entered")
        assert ended.wait(LIMIT_SECONDS)
        self.said.append(("active", context.is_active()))

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.wait_for_the_end(context)
        self.said.append("done")
        return request

    def out(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            for number in range(int(request)):
                yield b"%d" % number
            self.wait_for_the_end(context)
            yield b"late"
            yield b"later"
        except BaseException as error:
            self.said.append(type(error))
            raise
        finally:
            self.said.append("done")

    def take(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            for request in requests:
                self.said.append(request)
                if request == b"0":
                    self.wait_for_the_end(context)
        except BaseException as error:
            self.said.append(type(error))
            raise
        finally:
            self.said.append("done")
        return b"all"

    def both(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            for request in requests:
                self.said.append(request)
                yield request
                if request == b"0":
                    self.wait_for_the_end(context)
        except BaseException as error:
            self.said.append(type(error))
            raise
        finally:
            self.said.append("done")

    def handlers(self, suffix: str = "") -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.out),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.take),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.both),
        }
        return {kind + suffix: handler for kind, handler in handlers.items()}


AT_ONCE = "AtOnce"
"""Calls that are given up before the first message have methods and handlers of their own: they
may come to the server much later, or never, or be done before it hears of it."""


def method_of(kind: str, after: int) -> str:
    return f"/{SERVICE}/{kind}{'' if after else AT_ONCE}"


def given_up(served: Served, held: Held, kind: str, after: int) -> Any:
    """What a client sees that cancels after so many messages, and what its handler saw."""
    path = method_of(kind, after)
    held.said.clear()
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        yield from (b"%d" % number for number in reversed(range(after)))
        over.wait(LIMIT_SECONDS)

    received: list[bytes] = []
    if kind in ("UnaryUnary", "StreamUnary"):
        call = (
            served.channel.unary_unary(path).future(b"x")
            if kind == "UnaryUnary"
            else served.channel.stream_unary(path).future(requests())
        )
    else:
        call = (
            served.channel.unary_stream(path)(b"%d" % after)
            if kind == "UnaryStream"
            else served.channel.stream_stream(path)(requests())
        )
        received = [next(call) for _ in range(after)]
    # The last message that the handler gets is a zero; then it waits for the end.
    assert not after or until(lambda: "entered" in held.said)
    assert call.cancel()
    over.set()
    if after:
        assert until(lambda: "done" in held.said)
    # At once, it may never have come to the handler.
    return call.code(), received, [*held.said] if after else []


@pytest.fixture
def held(probe: ProcessProbe) -> Iterator[list[tuple[Served, Held]]]:
    """The same handlers twice: as they are, and under the probe."""
    logging.disable(logging.CRITICAL)
    plain, probed, strays = Held(), Held(), Held().handlers(AT_ONCE)
    probe._grpc.part.enabled = False
    with serving(plain.handlers() | strays) as served_plain:
        probe._grpc.part.enabled = True
        with serving(probed.handlers() | strays) as served_probed:
            yield [(served_plain, plain), (served_probed, probed)]
    logging.disable(logging.NOTSET)


@given(kind=st.sampled_from(KINDS), after=st.integers(0, 4))
@settings(max_examples=40, deadline=None, suppress_health_check=WITH_A_FIXTURE)
def test_a_client_that_gives_up_is_noticed_as_without_the_probe(
    held: list[tuple[Served, Held]], ring_dir: Path, kind: str, after: int
) -> None:
    """At any message: by the client, by the handler; and it is recorded as cancelled."""
    method = method_of(kind, after)
    before = len(the_ring(ring_dir).requests(method)) if any(ring_dir.iterdir()) else 0
    expected, seen = (given_up(served, handlers, kind, after) for served, handlers in held)
    assert seen == expected
    assert seen[0] is grpc.StatusCode.CANCELLED
    assert until(lambda: not held[1][0].server._state.rpc_states)  # type: ignore[attr-defined]
    if after:
        (record,) = until(lambda: the_ring(ring_dir).requests(method)[before:])
        assert record.status == number(grpc.StatusCode.CANCELLED)
