"""Whatever the handler does, its client cannot tell whether the probe is there."""

from __future__ import annotations

import json
import logging
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
from tests.support.waiting import until

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
    return responses


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
    }
)
REQUESTS = st.lists(PLANS.map(lambda plan: json.dumps(plan).encode()), min_size=1, max_size=2)
ANY_REQUESTS = REQUESTS | REQUESTS | st.just([b"not json"])


@given(kind=st.sampled_from(KINDS), requests=ANY_REQUESTS)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
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
