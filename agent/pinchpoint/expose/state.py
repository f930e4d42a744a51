"""What the agent's loop publishes and the HTTP threads read, and what these count."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pinchpoint.snapshot import Snapshot


class ScrapeStats:
    """How scraping goes. Every HTTP thread counts here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_code = Counter({"200": 0})
        self._errors = 0
        self._duration_seconds: float | None = None

    def answered(self, code: int, duration_seconds: float) -> None:
        """A scrape was answered, after so long."""
        with self._lock:
            self._by_code[str(code)] += 1
            self._duration_seconds = duration_seconds

    def failed(self) -> None:
        """The metrics could not be rendered."""
        with self._lock:
            self._errors += 1

    @property
    def by_code(self) -> Mapping[str, int]:
        """Answers by HTTP status."""
        with self._lock:
            return dict(sorted(self._by_code.items()))

    @property
    def errors(self) -> int:
        """Scrapes that could not be rendered."""
        return self._errors

    @property
    def duration_seconds(self) -> float | None:
        """How long the last scrape took to answer; None before the first."""
        return self._duration_seconds


@dataclass
class PublishedState:
    """The latest snapshot. Assigning the attribute is atomic; nothing is ever changed in it."""

    snapshot: Snapshot | None = None
    ready: bool = False
    scrapes: ScrapeStats = field(default_factory=ScrapeStats)
