"""From single looks to a state that holds still: two of three looks to appear, none of
three to go."""

from __future__ import annotations

from collections import deque

from pinchpoint.detect.thresholds import PROVISIONAL_HITS, PROVISIONAL_LOOKS


class Hysteresis:
    """Whether a label is active, by its last looks."""

    def __init__(self) -> None:
        self._looks: deque[bool] = deque(maxlen=PROVISIONAL_LOOKS)
        self.active = False
        self.since_ns = 0

    def look(self, now_ns: int, passed: bool) -> None:
        """Take in whether the label passed all its gates at `now_ns`."""
        self._looks.append(passed)
        hits = sum(self._looks)
        if not self.active and hits >= PROVISIONAL_HITS:
            self.active, self.since_ns = True, now_ns
        elif self.active and hits == 0:
            self.active, self.since_ns = False, now_ns
