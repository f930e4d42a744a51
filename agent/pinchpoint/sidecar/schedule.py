"""When the agent looks: absolute deadlines, spread a little, their lateness kept as data."""

from __future__ import annotations

PERIOD_NS = 250_000_000
JITTER_NS = 10_000_000
"""Spread of the deadlines, so that looks do not run in step with periodic work."""

_GOLDEN_RATIO = 0.618033988749895


class Schedule:
    """Deadlines from `start_ns` on. Deadlines that were missed are left out.

    Args:
        start_ns: CLOCK_MONOTONIC, nanoseconds; the first deadline.
    """

    def __init__(self, start_ns: int) -> None:
        self.deadline_ns = start_ns
        self.lateness_ns = 0
        self._base_ns = start_ns
        self._turn = 0

    def remaining_ns(self, now_ns: int) -> int:
        """How long until the deadline; 0 when it has passed."""
        return max(0, self.deadline_ns - now_ns)

    def advance(self, now_ns: int) -> bool:
        """Whether the deadline has come at `now_ns`. If so, note how late, and set the next."""
        if now_ns < self.deadline_ns:
            return False
        self.lateness_ns = now_ns - self.deadline_ns
        self._turn += 1
        missed = max(0, now_ns - self._base_ns) // PERIOD_NS
        self._base_ns += (missed + 1) * PERIOD_NS
        jitter_ns = int((self._turn * _GOLDEN_RATIO % 1 - 0.5) * JITTER_NS)
        self.deadline_ns = self._base_ns + jitter_ns
        return True
