"""The status that the client of a sync RPC was sent, from the state that grpcio leaves behind."""

from __future__ import annotations

import time
from typing import Any

from pinchpoint.schema.terms import GRPC_CODES

CODE = {name: number for number, name in enumerate(GRPC_CODES)}
OK = CODE["OK"]
CANCELLED = CODE["CANCELLED"]
UNKNOWN = CODE["UNKNOWN"]
DEADLINE_EXCEEDED = CODE["DEADLINE_EXCEEDED"]
INTERNAL = CODE["INTERNAL"]

DEADLINE_ROUNDING = 0.01
DEADLINE_SLACK_SECONDS = 0.01
"""The client's core rounds its timeout up, by at most a hundredth, when it tells the server; and
the client gives up by its own clock, so that its word comes about when the server's timer ends."""


def number_of(code: Any) -> int:
    """The canonical number of a `grpc.StatusCode`; anything else is sent as UNKNOWN."""
    name = getattr(code, "name", None)
    return CODE.get(name, UNKNOWN) if isinstance(name, str) else UNKNOWN


def final_status(rpc_event: Any, state: Any, aborted: int | None, arrival_ns: int) -> int:
    """The status number of a finished RPC.

    Args:
        rpc_event: grpcio's event that began it.
        state: its `_RPCState`.
        aborted: the number that grpcio itself gave up with, if it did.
        arrival_ns: when the RPC came, CLOCK_MONOTONIC.
    """
    if state.statused:
        if state.code is not None:
            return number_of(state.code)
        return OK if aborted is None else aborted
    if state.client != "cancelled":
        return UNKNOWN if aborted is None else aborted
    remaining_seconds = rpc_event.call_details.deadline - time.time()
    return ended_by_client(remaining_seconds, arrival_ns)


def ended_by_client(remaining_seconds: float, arrival_ns: int) -> int:
    """Why an RPC ended that nobody answered.

    Args:
        remaining_seconds: until its deadline.
        arrival_ns: when it came, CLOCK_MONOTONIC.
    """
    timeout_seconds = remaining_seconds + (time.monotonic_ns() - arrival_ns) / 1e9
    slack_seconds = DEADLINE_SLACK_SECONDS + DEADLINE_ROUNDING * timeout_seconds
    return DEADLINE_EXCEEDED if remaining_seconds <= slack_seconds else CANCELLED


def dead_on_arrival(rpc_event: Any, arrival_ns: int) -> bool:
    """Whether its deadline had passed when Python first saw the RPC."""
    age_seconds = (time.monotonic_ns() - arrival_ns) / 1e9
    return bool(rpc_event.call_details.deadline <= time.time() - age_seconds)
