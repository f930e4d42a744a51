"""Reads one server again and again, on a thread of its own: a server that hangs holds up nobody."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from pinchpoint.adapters import exposition
from pinchpoint.adapters.adapter import Values
from pinchpoint.adapters.fetch import FetchError, RefusedError, SilentError, fetch
from pinchpoint.adapters.kinds import adapter_of
from pinchpoint.adapters.target import AdapterTarget

WAITING_MAX = 16
"""Scrapes that wait to be taken; the oldest are dropped while the agent is suspended."""


@dataclass(frozen=True)
class Scrape:
    """What one scrape brought.

    Attributes:
        time_ns: CLOCK_MONOTONIC when the answer was complete.
        duration_ns: how long it took.
        values: by model; None if it failed.
        reason: why it failed, completing "it …".
        silent: it failed because the server did not answer in time.
        refused: it failed because nothing listens there.
    """

    time_ns: int
    duration_ns: int
    values: Values | None = None
    reason: str = ""
    silent: bool = False
    refused: bool = False


def scrape(target: AdapterTarget) -> Scrape:
    """Read a server once. Never raises."""
    adapter = adapter_of(target.kind)
    began_ns = time.monotonic_ns()
    values: Values | None = None
    failure: Exception | None = None
    try:
        answer = fetch(target.url, target.timeout_seconds)
        said = exposition.read(answer.body, answer.content_type, adapter.names)
        if not said.declared:
            raise FetchError(f"has none of the metrics of {target.kind}")
        values = adapter.read(said.series)
    except (FetchError, exposition.ExpositionError) as error:
        failure = error
    now_ns = time.monotonic_ns()
    if failure is None:
        return Scrape(now_ns, now_ns - began_ns, values)
    return Scrape(
        now_ns,
        now_ns - began_ns,
        reason=str(failure),
        silent=isinstance(failure, SilentError),
        refused=isinstance(failure, RefusedError),
    )


class Scraper:
    """Scrapes a target at its interval until closed."""

    def __init__(self, target: AdapterTarget) -> None:
        self._target = target
        self._taken: deque[Scrape] = deque(maxlen=WAITING_MAX)
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"pinchpoint-{target.kind}", daemon=True
        )
        self._thread.start()

    def take(self) -> list[Scrape]:
        """What has come since the last time."""
        taken = []
        while self._taken:
            taken.append(self._taken.popleft())
        return taken

    def close(self) -> None:
        """Ask the thread to end. It is not waited for: it may hang for its timeout."""
        self._ended.set()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            self._taken.append(scrape(self._target))
            left = began + self._target.interval_seconds - time.monotonic()
            if self._ended.wait(max(0.0, left)):
                return
