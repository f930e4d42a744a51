from __future__ import annotations

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import (
    FLAG_BEHAVIOUR_CALLED,
    FLAG_DEAD_ON_ARRIVAL,
    FLAG_DESERIALIZE_FAILED,
    FLAG_REJECTED,
    FLAG_SERIALIZE_FAILED,
)
from pinchpoint.schema.terms import GRPC_CODES, HTTP
from tests.unit.pipeline.feeding import call, fed, shown

CODE = {name: number for number, name in enumerate(GRPC_CODES)}


def test_failures_are_exported_as_zeros_up_front() -> None:
    """All their reasons are known."""
    snapshot = shown(Pipeline())
    assert snapshot.rejected == {"unknown_method": 0, "concurrency_limit": 0, "error": 0}
    assert snapshot.abandoned == {"queue": 0, "core": 0}
    assert snapshot.message_errors == {"deserialize": 0, "serialize": 0}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("UNIMPLEMENTED", "unknown_method"),
        ("RESOURCE_EXHAUSTED", "concurrency_limit"),
        ("INTERNAL", "error"),
    ],
)
def test_rejections_are_counted_by_reason(code: str, reason: str) -> None:
    """The code that grpcio gives says which it was."""
    snapshot = shown(fed(call(status=CODE[code], flags=FLAG_REJECTED)))
    assert {name for name, count in snapshot.rejected.items() if count} == {reason}
    assert not any(snapshot.abandoned.values())


@pytest.mark.parametrize(
    ("status", "flags", "queue", "core"),
    [
        ("CANCELLED", 0, 1, 0),
        ("DEADLINE_EXCEEDED", 0, 1, 0),
        ("DEADLINE_EXCEEDED", FLAG_DEAD_ON_ARRIVAL, 0, 1),
        ("INTERNAL", FLAG_DESERIALIZE_FAILED, 0, 0),
        ("DEADLINE_EXCEEDED", FLAG_BEHAVIOUR_CALLED, 0, 0),
        ("CANCELLED", FLAG_REJECTED, 0, 0),
    ],
)
def test_a_request_that_its_client_gave_up_before_its_handler_ran_is_abandoned(
    status: str, flags: int, queue: int, core: int
) -> None:
    """Not one that failed by itself, nor one that was being handled."""
    abandoned = shown(fed(call(status=CODE[status], flags=flags))).abandoned
    assert abandoned == {"queue": queue, "core": core}


def test_an_http_status_is_no_grpc_code() -> None:
    """A response of 1 or 4 does not exist, and would say nothing of the client."""
    abandoned = shown(fed(call(status=1, call_type=HTTP, flags=0))).abandoned
    assert not any(abandoned.values())


def test_messages_that_could_not_be_read_or_written_are_counted() -> None:
    """Whatever the status that came of it."""
    snapshot = shown(
        fed(
            call(flags=FLAG_DESERIALIZE_FAILED),
            call(flags=FLAG_BEHAVIOUR_CALLED | FLAG_SERIALIZE_FAILED),
            call(flags=FLAG_BEHAVIOUR_CALLED | FLAG_SERIALIZE_FAILED),
        )
    )
    assert snapshot.message_errors == {"deserialize": 1, "serialize": 2}
