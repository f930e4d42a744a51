"""Forwards that ran on threads which serve no request: a batcher's.

A request that waits in its handler while a batcher's thread runs the model for many is given
the last such forward that began and ended within the handler. That is an inference from time
alone, so it is marked as one in the record (`FLAG_SHARED_FORWARD`).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

REMEMBERED_MAX = 256
"""Forwards remembered: seconds of any batcher's work."""


class SharedForward(NamedTuple):
    """A forward outside of every request. Times in nanoseconds of CLOCK_MONOTONIC."""

    model_id: int
    batch_size: int
    start_ns: int
    wall_ns: int


class SharedForwards:
    """The last forwards outside of every request.

    Attributes:
        recent: by the time they ended.
        last_end_ns: when the last of them ended.
        waits: by method, whether the last sampled handler beside a forward stood still for as
            long as that took. One that worked meanwhile did not wait for it.
    """

    def __init__(self) -> None:
        self.waits: dict[int, bool] = {}
        self.last_end_ns = 0
        self.recent: deque[SharedForward] = deque(maxlen=REMEMBERED_MAX)

    def add(self, forward: SharedForward) -> None:
        """A forward has ended on a thread that serves no request."""
        self.recent.append(forward)
        self.last_end_ns = forward.start_ns + forward.wall_ns

    def of(self, begin_ns: int, end_ns: int) -> SharedForward | None:
        """The last forward within a handler's time, if there is one."""
        for forward in reversed(tuple(self.recent)):
            ended_ns = forward.start_ns + forward.wall_ns
            if ended_ns < begin_ns:
                return None
            if forward.start_ns >= begin_ns and ended_ns <= end_ns:
                return forward
        return None
