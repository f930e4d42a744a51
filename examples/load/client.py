"""Sends the schedule and waits for the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from examples.load.report import Report
from examples.open_inference.protocol import messages
from examples.open_inference.service import MODEL_INFER_PATH
from examples.open_inference.tensors import join_raw_bytes

_CONNECT_TIMEOUT_S = 15.0
_DRAIN_S = 5.0
_USERS = 1000


class CannotConnect(ConnectionError):
    """No server answers at the target."""


class LoadClient:
    """An open-loop client of one server.

    A request is due at its scheduled time whatever the server does, and its latency counts from
    then: a slow server cannot slow the clock it is judged by. Only ``max_in_flight`` bounds the
    queue; what exceeds it is dropped and counted.
    """

    def __init__(
        self, target: str, images: Sequence[bytes], timeout_s: float, max_in_flight: int
    ) -> None:
        self.report = Report()
        self._target = target
        self._requests = [make_request(image, index) for index, image in enumerate(images)]
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self, schedule_s: Sequence[float], stop: asyncio.Event) -> float:
        """Send the schedule until its end or ``stop``; return the elapsed seconds."""
        async with grpc.aio.insecure_channel(self._target) as channel:
            await self._connect(channel, stop)
            # Requests are serialised once, beforehand.
            infer: Any = channel.unary_unary(
                MODEL_INFER_PATH, response_deserializer=messages.ModelInferResponse.FromString
            )
            start_s = time.monotonic()
            for index, due_s in enumerate(schedule_s):
                if await _stopped_within(stop, start_s + due_s - time.monotonic()):
                    break
                if len(self._calls) >= self._max_in_flight:
                    self.report.dropped += 1
                    continue
                call = asyncio.create_task(self._call(infer, index, start_s + due_s))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            elapsed_s = time.monotonic() - start_s
            if self._calls:
                await asyncio.wait(self._calls, timeout=_DRAIN_S)
            return elapsed_s

    async def _connect(self, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        """Return when the server answers, or at once when told to stop."""
        waits = (
            asyncio.ensure_future(channel.channel_ready()),
            asyncio.ensure_future(stop.wait()),
        )
        done, pending = await asyncio.wait(
            waits, timeout=_CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in pending:
            wait.cancel()
        if not done:
            raise CannotConnect(f"no gRPC server answers at {self._target}")

    async def _call(self, infer: Any, index: int, due_s: float) -> None:
        sent_s = time.monotonic()
        self.report.add_sent(sent_s - due_s)
        try:
            await infer(self._requests[index % len(self._requests)], timeout=self._timeout_s)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        now_s = time.monotonic()
        self.report.add_completed(code, now_s - due_s, now_s - sent_s)


async def _stopped_within(stop: asyncio.Event, delay_s: float) -> bool:
    if delay_s <= 0:
        return stop.is_set()
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except asyncio.TimeoutError:
        return False
    return True


def make_request(image: bytes, index: int) -> bytes:
    """Return a serialised ModelInferRequest for one image; the index chooses the user."""
    request = messages.ModelInferRequest(
        model_name="image_classifier", raw_input_contents=[join_raw_bytes([image])]
    )
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.parameters["user_id"].string_param = f"user-{index % _USERS}"
    serialised: bytes = request.SerializeToString()
    return serialised
