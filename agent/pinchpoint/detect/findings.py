"""What a mechanism test says: the cause was found, or why it was not."""

from __future__ import annotations

from dataclasses import dataclass

from pinchpoint.detect.labels import Label
from pinchpoint.detect.replay_model import Gain


@dataclass(frozen=True)
class Evidence:
    """A figure that speaks for a label, with the threshold it crossed (if it has one)."""

    name: str
    value: float | str
    unit: str
    threshold: float | None
    text: str
    below: bool = False
    """The value speaks for the label by being below its threshold."""


@dataclass(frozen=True)
class Found:
    """All gates of a label passed in this window."""

    label: Label
    share_ratio: float
    gain: Gain
    evidence: tuple[Evidence, ...]
    summary: str
    subtype: str = ""
    grown: float | None = None
    """For a label of composition: how many times its reference; None without one."""


@dataclass(frozen=True)
class RuledOut:
    """A label that does not hold, the gate it failed at, and the figure that says so."""

    label: Label
    gate: str
    """signal, mechanism, materiality, harm or exclusion"""
    reason: str


Finding = Found | RuledOut
