"""The decomposition, accumulated: `rate()` of it is a stacked picture of latency.

Each second's sampled requests are taken apart with the splits of the window that they end
in. The sum over components equals the weighted sum of their latencies.
"""

from __future__ import annotations

from pinchpoint.detect.verdict import Verdict
from pinchpoint.schema.events import RequestDetail
from pinchpoint.schema.terms import COMPONENTS


class Shares:
    """Seconds of request time by component, since the agent attached."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(COMPONENTS, 0.0)
        self._pending_seconds = 0.0

    def detail(self, detail: RequestDetail) -> None:
        """A sampled request has ended; it is split at the next verdict."""
        self._pending_seconds += detail.weight * detail.latency_ns / 1e9

    def settle(self, verdict: Verdict) -> None:
        """Split what has come since the last verdict as the window says."""
        decomposition = verdict.decomposition
        if not decomposition.latency_seconds:
            return
        pending, self._pending_seconds = self._pending_seconds, 0.0
        total = sum(decomposition.components.values())
        for component, seconds in decomposition.components.items():
            self.seconds[component] += pending * seconds / total
