"""When a verdict is worth a line: its state, or what is primary, differs from the last one's."""

from __future__ import annotations

from pinchpoint.detect.verdict import Verdict


class VerdictChanges:
    """Remembers the last verdict that was told."""

    def __init__(self) -> None:
        self._told: tuple[str, str] | None = None

    def is_change(self, verdict: Verdict) -> bool:
        """Whether to tell this one; if so it is the last one told."""
        now = (verdict.state, verdict.primary)
        if now == self._told:
            return False
        self._told = now
        return True


def verdict_line(verdict: Verdict) -> str:
    """`bottleneck gil_contention (provisional): summary`, or `healthy: reason`."""
    if verdict.state == "bottleneck":
        return f"bottleneck {verdict.primary} (provisional): {verdict.reason}"
    return f"{verdict.state}: {verdict.reason}"
