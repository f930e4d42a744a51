from __future__ import annotations

import pytest

from pinchpoint.probe.trace_parent import HTTP_HEADER, find, trace_halves

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "value", [PARENT, PARENT.encode(), f"cc-{PARENT[3:]}-what-the-future-adds"]
)
def test_a_trace_id_is_two_numbers(value: str | bytes) -> None:
    """Together they are its 128 bits, in any version of the header."""
    high, low = trace_halves(value)
    assert f"{high:016x}{low:016x}" == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        TRACE,
        PARENT.upper(),
        PARENT.replace("-", "_"),
        PARENT[:-4],
        f"00-{TRACE[:-1]}g-00f067aa0ba902b7-01",
        f"00-{TRACE[:-1]}+-00f067aa0ba902b7-01",
        b"\xff" * 55,
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
    ],
)
def test_what_the_standard_does_not_allow_is_none(value: str | bytes) -> None:
    """Clients send anything."""
    assert trace_halves(value) == (0, 0)


def test_the_header_is_found_among_others() -> None:
    """In gRPC metadata, whose values may be bytes, and in ASGI headers."""
    assert find((("a", "b"), ("c-bin", b"\x00"), ("traceparent", PARENT))) == PARENT
    assert find([(b"a", b"b"), (b"traceparent", PARENT.encode())], HTTP_HEADER) == PARENT.encode()
    assert find(()) == ""
