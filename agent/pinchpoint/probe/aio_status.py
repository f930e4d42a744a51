"""The status that the client of a `grpc.aio` RPC was sent, from how the RPC ended."""

from __future__ import annotations

from typing import Any

from pinchpoint.probe.grpc_status import CANCELLED, OK, UNKNOWN, ended_by_client
from pinchpoint.schema.terms import GRPC_CODES

_NOTHING_SENT = frozenset({"ExecuteBatchError", "_ServerStoppedError"})
"""grpcio's own exceptions after which it sends no status: the client, or the server, is gone."""

_CORE = "grpc._cython.cygrpc."


def number_of(code: Any) -> int:
    """What `set_code` and `abort` make of their argument: integers are taken as they are."""
    if isinstance(code, int):
        return int(code) if 0 <= code < len(GRPC_CODES) else UNKNOWN
    value = getattr(code, "value", None)
    return value[0] if isinstance(value, tuple) and value and value[0] in _NUMBERS else UNKNOWN


_NUMBERS = range(len(GRPC_CODES))


def final_status(
    context: Any, error: BaseException | None, aborted: int | None, arrival_ns: int
) -> int:
    """The status number of an RPC that is over.

    Args:
        context: a servicer context of the RPC.
        error: what grpcio's coroutine raised, if it did.
        aborted: the number that grpcio has sent before that, if it did.
        arrival_ns: when the RPC came.
    """
    if aborted is not None:
        return aborted
    if error is None:
        if not context.done():
            return _ended_by_client(context, arrival_ns)
        return _code(context)
    from asyncio import CancelledError  # this file is loaded before it is known to be needed

    nothing_sent = type(error).__name__ in _NOTHING_SENT
    if nothing_sent or isinstance(error, (CancelledError, GeneratorExit)):
        return _ended_by_client(context, arrival_ns)
    return _code(context) or UNKNOWN


def _code(context: Any) -> int:
    code = context.code()
    return OK if code is None else number_of(code)


def _ended_by_client(context: Any, arrival_ns: int) -> int:
    remaining_seconds = context.time_remaining()
    if remaining_seconds is None:
        return CANCELLED
    return ended_by_client(remaining_seconds, arrival_ns)


def failed_in(error: BaseException) -> str:
    """The (de)serialiser that an error came out of, `serialize` or `deserialize`, else ''."""
    found = ""
    traceback = error.__traceback__
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_name
        if name in (_CORE + "serialize", _CORE + "deserialize"):
            found = name[len(_CORE) :]
        traceback = traceback.tb_next
    return found
