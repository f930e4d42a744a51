"""Requests that did not get to their handler, and messages that could not be read or written."""

from __future__ import annotations

from collections import Counter

from pinchpoint.schema.events import (
    FLAG_BEHAVIOUR_CALLED,
    FLAG_DEAD_ON_ARRIVAL,
    FLAG_DESERIALIZE_FAILED,
    FLAG_REJECTED,
    FLAG_SERIALIZE_FAILED,
    RequestEvent,
)
from pinchpoint.schema.terms import GRPC_TYPES, status_text

_REJECTION = {"UNIMPLEMENTED": "unknown_method", "RESOURCE_EXHAUSTED": "concurrency_limit"}

_TOLD_BY = FLAG_BEHAVIOUR_CALLED | FLAG_REJECTED | FLAG_DESERIALIZE_FAILED | FLAG_SERIALIZE_FAILED

_MESSAGE_ERROR = {FLAG_DESERIALIZE_FAILED: "deserialize", FLAG_SERIALIZE_FAILED: "serialize"}


class Failures:
    """Counts them, with all their zeros up front."""

    def __init__(self) -> None:
        self.rejected = Counter(dict.fromkeys((*_REJECTION.values(), "error"), 0))
        self.abandoned = Counter(dict.fromkeys(("queue", "core"), 0))
        self.message_errors = Counter(dict.fromkeys(_MESSAGE_ERROR.values(), 0))

    def request(self, event: RequestEvent) -> None:
        """A request is over."""
        if event.flags & _TOLD_BY == FLAG_BEHAVIOUR_CALLED:
            return
        for flag, kind in _MESSAGE_ERROR.items():
            if event.flags & flag:
                self.message_errors[kind] += 1
        status = status_text(event.call_type, event.status)
        if event.flags & FLAG_REJECTED:
            self.rejected[_REJECTION.get(status, "error")] += 1
        elif (
            not event.flags & FLAG_BEHAVIOUR_CALLED
            and event.call_type < len(GRPC_TYPES)
            and status in ("CANCELLED", "DEADLINE_EXCEEDED")
        ):
            self.abandoned["core" if event.flags & FLAG_DEAD_ON_ARRIVAL else "queue"] += 1
