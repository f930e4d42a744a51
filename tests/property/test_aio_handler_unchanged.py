"""Whatever a handler on an event loop does, its client cannot tell whether the probe is there."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinchpoint.probe.process import ProcessProbe
from tests.support.aio_servers import AioServed, serving_aio
from tests.support.rings import the_ring
from tests.support.servers import SERVICE, number
from tests.support.waiting import LIMIT_SECONDS, until

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
STYLES = ("", "Written", "InThread")
CODES = list(grpc.StatusCode)


hanging = threading.Semaphore(0)
"""Released by each handler that waits for its client to give up."""


def read(data: bytes) -> Any:
    return json.loads(data)


def write(response: Any) -> bytes:
    if isinstance(response, bytes):  # what aio makes of strings
        response = response.decode()
    if response == "unwritable":
        raise ValueError("cannot write this")
    if response == "nothing":
        return None  # type: ignore[return-value]  # a defective serialiser
    return json.dumps(response).encode()


def prepare(plan: Any, context: Any) -> list[Any]:
    """What a handler says without waiting; the responses to give are what is returned."""
    if plan["metadata"]:
        context.set_trailing_metadata((("trailing", plan["metadata"]),))
    if plan["code"] is not None:
        code = plan["code"]
        context.set_code(code if plan["bare_number"] else CODES[code])
        context.set_details(plan["details"])
    if plan["end"] == "raise":
        raise RuntimeError(plan["details"])
    responses: list[Any] = plan["responses"]
    return responses


async def act(plan: Any, context: Any) -> list[Any]:
    for _ in range(plan["turns"]):
        await asyncio.sleep(0)
    if plan["metadata"] and not plan["late"]:
        await context.send_initial_metadata((("initial", plan["metadata"]),))
    if plan["end"] == "abort":
        try:
            await context.abort(CODES[plan["abort"]], plan["details"])
        except grpc.aio.AbortError:
            if not plan["suppressed"]:
                raise
    if plan["end"] == "hang":
        hanging.release()
        await asyncio.get_running_loop().create_future()
    return prepare(plan, context)


async def give(plan: Any, context: Any) -> AsyncIterator[Any]:
    if plan["late"]:
        yield "early"
    for response in await act(plan, context):
        yield response


async def give_written(plan: Any, context: Any) -> None:
    async for response in give(plan, context):
        await context.write(response)


def act_in_thread(plan: Any, context: Any) -> list[Any]:
    if plan["metadata"] and not plan["late"]:
        context.send_initial_metadata((("initial", plan["metadata"]),))
    if plan["end"] == "abort":
        context.abort(CODES[plan["abort"]], plan["details"])
    return prepare(plan, context)


def give_in_thread(plan: Any, context: Any) -> Iterator[Any]:
    # A stream that ends while a response waits to be written leaves the worker waiting in grpcio
    # for ever, with the probe and without: such plans are left out.
    if plan["late"] and plan["end"] == "return":
        yield "early"
    yield from (r for r in act_in_thread(plan, context) if r not in ("unwritable", "nothing"))


async def last(plans: Any) -> Any:
    return [plan async for plan in plans][-1]


async def last_read(context: Any) -> Any:
    plan = None
    while (message := await context.read()) is not grpc.aio.EOF:
        plan = message
    return plan


def stream_stream_in_thread(plans: Any, context: Any) -> Iterator[Any]:
    yield from give_in_thread(list(plans)[-1], context)


def first(responses: list[Any]) -> Any:
    return next(iter(responses), None)


async def unary_unary(plan: Any, context: Any) -> Any:
    return first(await act(plan, context))


async def stream_unary(plans: Any, context: Any) -> Any:
    return first(await act(await last(plans), context))


async def stream_unary_read(_plans: Any, context: Any) -> Any:
    return first(await act(await last_read(context), context))


async def stream_stream(plans: Any, context: Any) -> AsyncIterator[Any]:
    async for response in give(await last(plans), context):
        yield response


async def stream_stream_written(_plans: Any, context: Any) -> None:
    await give_written(await last_read(context), context)


BEHAVIOURS: dict[str, Callable[[Any, Any], Any]] = {
    "UnaryUnary": unary_unary,
    "UnaryUnaryWritten": unary_unary,
    "UnaryUnaryInThread": lambda plan, context: first(act_in_thread(plan, context)),
    "UnaryStream": give,
    "UnaryStreamWritten": give_written,
    "UnaryStreamInThread": give_in_thread,
    "StreamUnary": stream_unary,
    "StreamUnaryWritten": stream_unary_read,
    "StreamUnaryInThread": lambda plans, context: first(act_in_thread(list(plans)[-1], context)),
    "StreamStream": stream_stream,
    "StreamStreamWritten": stream_stream_written,
    "StreamStreamInThread": stream_stream_in_thread,
}


def handlers() -> dict[str, Any]:
    make = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler,
        "UnaryStream": grpc.unary_stream_rpc_method_handler,
        "StreamUnary": grpc.stream_unary_rpc_method_handler,
        "StreamStream": grpc.stream_stream_rpc_method_handler,
    }
    return {
        kind + style: make[kind](
            BEHAVIOURS[kind + style], request_deserializer=read, response_serializer=write
        )
        for kind in KINDS
        for style in STYLES
    }


def start(channel: Any, kind: str, path: str, requests: list[bytes]) -> Any:
    if kind == "UnaryUnary":
        return channel.unary_unary(path).future(requests[-1], timeout=LIMIT_SECONDS)
    if kind == "StreamUnary":
        return channel.stream_unary(path).future(iter(requests), timeout=LIMIT_SECONDS)
    if kind == "UnaryStream":
        return channel.unary_stream(path)(requests[-1], timeout=LIMIT_SECONDS)
    return channel.stream_stream(path)(iter(requests), timeout=LIMIT_SECONDS)


def outcome(channel: Any, kind: str, style: str, requests: list[bytes]) -> Any:
    """Everything that the client of an RPC can see; of one that it cancels, the status."""
    call = start(channel, kind, f"/{SERVICE}/{kind}{style}", requests)
    if b'"hang"' in requests[-1] and style != "InThread":
        assert hanging.acquire(timeout=LIMIT_SECONDS)
        call.cancel()
        return (call.code(),)
    received: list[bytes] = []
    try:
        if kind in ("UnaryUnary", "StreamUnary"):
            received.append(call.result(LIMIT_SECONDS))
        else:
            received.extend(call)
    except grpc.RpcError:
        pass  # as its status says
    metadata = [
        [(key, value) for key, value in found or () if key in ("initial", "trailing")]
        for found in (call.initial_metadata(), call.trailing_metadata())
    ]
    return call.code(), call.details(), received, metadata


@pytest.fixture
def both(probe: ProcessProbe) -> Iterator[tuple[AioServed, AioServed]]:
    """The same service twice: under the probe, and as it is."""
    logging.disable(logging.CRITICAL)
    with serving_aio(handlers()) as plain, serving_aio(handlers()) as probed:
        yield plain, probed
    logging.disable(logging.NOTSET)


RESPONSES = st.lists(
    st.sampled_from(["", "ok", "unwritable", "nothing", None]) | st.text(max_size=5), max_size=3
)
PLANS = st.fixed_dictionaries(
    {
        "end": st.sampled_from(["return"] * 4 + ["abort"] * 2 + ["raise"] * 2 + ["hang"]),
        "responses": RESPONSES,
        "code": st.none() | st.integers(0, len(CODES) - 1),
        "bare_number": st.booleans(),
        "abort": st.integers(1, len(CODES) - 1),
        "suppressed": st.booleans(),
        "details": st.text(st.characters(codec="ascii", min_codepoint=32), max_size=8),
        "metadata": st.sampled_from(["", "value"]),
        "late": st.booleans(),
        "turns": st.integers(0, 2),
    }
)
REQUESTS = st.lists(PLANS.map(lambda plan: json.dumps(plan).encode()), min_size=1, max_size=2)
ANY_REQUESTS = REQUESTS | REQUESTS | st.just([b"not json"])


@given(
    kind=st.sampled_from(KINDS),
    style=st.sampled_from(STYLES),
    requests=ANY_REQUESTS,
    sampled=st.booleans(),
)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_an_rpc_is_the_same_with_the_probe_and_recorded_once_as_seen(
    both: tuple[AioServed, AioServed],
    probe: ProcessProbe,
    ring_dir: Path,
    kind: str,
    style: str,
    requests: list[bytes],
    sampled: bool,
) -> None:
    """Responses, status, details and metadata agree; one record has the client's status."""
    plain, probed = both
    assert probe._recorder is not None
    before = len(the_ring(ring_dir).requests())

    probe._aio.part.enabled = False
    expected = outcome(plain.channel, kind, style, requests)
    probe._aio.part.enabled = True
    probe._recorder.adapt(0.0 if sampled else 1e12)
    seen = outcome(probed.channel, kind, style, requests)

    assert seen == expected
    recorded = until(lambda: the_ring(ring_dir).requests()[before:])
    assert [record.status for record in recorded] == [number(seen[0])]
    assert until(lambda: not probe._active and not probe._aio.watched)
    assert probe._aio.part.enabled
