"""What the demo found out: one outcome a fault, the client's view, pass or fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_SECONDS_UNTIL_LABEL = 20.0


@dataclass
class Outcome:
    """One fault, from injection until the service is healthy again."""

    fault: str
    expected: str
    types_seen: list[str] = field(default_factory=list)
    seconds_until_label: float | None = None
    seconds_until_healthy: float | None = None

    @property
    def labelled_as(self) -> str:
        """The expected label when it was given, else the last thing said instead."""
        if self.seconds_until_label is not None:
            return self.expected
        return self.types_seen[-1] if self.types_seen else "nothing"

    @property
    def passed(self) -> bool:
        """Labelled rightly and in time, and healthy afterwards."""
        return (
            self.seconds_until_label is not None
            and self.seconds_until_label <= MAX_SECONDS_UNTIL_LABEL
            and self.seconds_until_healthy is not None
        )


@dataclass
class Results:
    """Everything the demo reports at its end."""

    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    false_labels: list[str] = field(default_factory=list)
    unattributed_ratios: list[float] = field(default_factory=list)
    client: dict[str, Any] | None = None

    @property
    def mean_unattributed_ratio(self) -> float | None:
        """Mean over the whole demo of the share of latency that nothing explained."""
        ratios = self.unattributed_ratios
        return sum(ratios) / len(ratios) if ratios else None

    @property
    def passed(self) -> bool:
        """Every fault passed, and nothing else went wrong."""
        return not self.failures and all(outcome.passed for outcome in self.outcomes)

    def as_document(self) -> dict[str, Any]:
        """Return the results for ``--json``."""
        return {
            "passed": self.passed,
            "faults": [
                {
                    "fault": outcome.fault,
                    "expected": outcome.expected,
                    "labelled_as": outcome.labelled_as,
                    "types_seen": outcome.types_seen,
                    "seconds_until_label": outcome.seconds_until_label,
                    "seconds_until_healthy": outcome.seconds_until_healthy,
                    "passed": outcome.passed,
                }
                for outcome in self.outcomes
            ],
            "false_labels": self.false_labels,
            "mean_unattributed_ratio": self.mean_unattributed_ratio,
            "client": self.client,
            "notes": self.notes,
            "failures": self.failures,
        }
