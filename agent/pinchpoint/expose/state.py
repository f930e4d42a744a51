"""What the agent's loop publishes and the HTTP threads read: one attribute, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass

from pinchpoint.snapshot import Snapshot


@dataclass
class PublishedState:
    """The latest snapshot. Assigning the attribute is atomic; nothing is ever changed in it."""

    snapshot: Snapshot | None = None
    ready: bool = False
