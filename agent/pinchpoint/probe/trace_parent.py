"""The W3C `traceparent` header of a request: looked for only where the request is sampled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

HEADER = "traceparent"
HTTP_HEADER = b"traceparent"
"""As ASGI has it: bytes in lower case."""

_TRACE_ID = slice(3, 35)
_LENGTH_MIN = 55
_HALF = 2**64 - 1
_HEX = frozenset("0123456789abcdef")


def find(pairs: Iterable[Any], header: str | bytes = HEADER) -> str | bytes:
    """The header's value among gRPC metadata or ASGI headers, "" if there is none."""
    for pair in pairs:
        if pair[0] == header:
            value: str | bytes = pair[1]
            return value
    return ""


def trace_halves(trace_parent: str | bytes) -> tuple[int, int]:
    """The trace id as two 64-bit numbers; zeros if the value is not what the standard says.

    `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`: https://www.w3.org/TR/trace-context/
    """
    if len(trace_parent) < _LENGTH_MIN:
        return 0, 0
    text = trace_parent if isinstance(trace_parent, str) else trace_parent.decode("latin-1")
    digits = text[_TRACE_ID]
    if text[2] != "-" or text[35] != "-" or not _HEX.issuperset(digits):
        return 0, 0
    trace_id = int(digits, 16)
    return trace_id >> 64, trace_id & _HALF
