"""Bounded waiting: for the event itself, never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 60.0
"""When a condition that has to come true is given up; never waited for in full."""

T = TypeVar("T")


def until(ask: Callable[[], T]) -> T:
    """The first true answer, or the last false one when the limit is reached."""
    deadline = time.monotonic() + LIMIT_SECONDS
    answer = ask()
    while not answer and time.monotonic() < deadline:
        time.sleep(0.002)
        answer = ask()
    return answer
