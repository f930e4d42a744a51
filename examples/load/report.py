"""What the client saw, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def quantile(values: Sequence[float], ratio: float) -> float | None:
    """Return the smallest value that at least ``ratio`` of the values do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]


@dataclass
class Report:
    """Sums over the whole run and over the second under way; all times in seconds."""

    sent: int = 0
    dropped: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    latency_s: list[float] = field(default_factory=list)
    latency_from_send_s: list[float] = field(default_factory=list)
    send_lateness_s: list[float] = field(default_factory=list)
    _second_start: int = 0

    def add_sent(self, lateness_s: float) -> None:
        """Count a request that left ``lateness_s`` after its intended time."""
        self.sent += 1
        self.send_lateness_s.append(lateness_s)

    def add_completed(self, code: str, latency_s: float, latency_from_send_s: float) -> None:
        """Count an answer of any status; latencies of failures are not latencies of answers."""
        self.codes[code] += 1
        if code == "OK":
            self.latency_s.append(latency_s)
            self.latency_from_send_s.append(latency_from_send_s)

    def take_second(self, time_s: float) -> dict[str, Any]:
        """Return the figures since the last call."""
        recent_s = self.latency_s[self._second_start :]
        self._second_start = len(self.latency_s)
        completed = self.codes.total()
        return {
            "type": "second",
            "time_seconds": round(time_s, 3),
            "sent": self.sent,
            "in_flight": self.sent - completed,
            "dropped": self.dropped,
            "answers": len(recent_s),
            "p50_seconds": quantile(recent_s, 0.5),
            "p99_seconds": quantile(recent_s, 0.99),
        }

    def summary(self, elapsed_s: float) -> dict[str, Any]:
        """Return the figures of the whole run; latency counts from the intended send time."""
        return {
            "type": "summary",
            "elapsed_seconds": round(elapsed_s, 3),
            "sent": self.sent,
            "dropped": self.dropped,
            "unfinished": self.sent - self.codes.total(),
            "codes": dict(sorted(self.codes.items())),
            "p50_seconds": quantile(self.latency_s, 0.5),
            "p99_seconds": quantile(self.latency_s, 0.99),
            "from_send_p50_seconds": quantile(self.latency_from_send_s, 0.5),
            "from_send_p99_seconds": quantile(self.latency_from_send_s, 0.99),
            "send_lateness_p50_seconds": quantile(self.send_lateness_s, 0.5),
            "send_lateness_p99_seconds": quantile(self.send_lateness_s, 0.99),
        }
