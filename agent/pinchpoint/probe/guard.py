"""The one rule that all of the probe obeys: it cannot hurt its host.

Theory of operation. The probe is made of parts (`grpc`, `torch`, `sampling`, …). Every
place where the server's control flow enters our code belongs to one part and is written
as

    if part.enabled:
        try:
            ... our work ...
        except Exception as error:
            part.trip(error)
    ... what the server would have done without us, unchanged ...

so that an internal error costs the one record in hand: it is counted, the part is switched
off for good, and the RPC's result and exception stay what they were. The server's own
calls are never inside such a `try`: its exceptions are not ours to see.

`try` costs nothing until something is raised, so the guard is free. Only `Exception` is
caught: a `KeyboardInterrupt` or `SystemExit` raised while we run is the server's.

Errors are visible as `pinchpoint_probe_errors_total{part}`; nothing is logged, because a
log line per request would hurt more than the error. The last message is kept for
`PINCHPOINT_DEBUG=1`, which prints it once per part on stderr.

The same test of `enabled` is the kill switch: `pause` switches every part off without an
error, `resume` switches on again what `pause` switched off.
"""

from __future__ import annotations

import os
import sys


class Part:
    """A part of the probe that can fail, and then stays off.

    Attributes:
        enabled: whether the part runs. Read it first, on every entry.
        errors: internal errors so far.
    """

    __slots__ = ("enabled", "errors", "last_error", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.enabled = True
        self.errors = 0
        self.last_error = ""

    def trip(self, error: BaseException) -> None:
        """Count an internal error and switch the part off. Never raises."""
        self.errors += 1
        self.enabled = False
        try:
            self.last_error = f"{type(error).__name__}: {error}"[:200]
            if os.environ.get("PINCHPOINT_DEBUG"):
                import traceback

                traceback.print_exception(error, file=sys.stderr)
        except Exception:
            self.last_error = type(error).__name__


class Guard:
    """All parts of the probe in this process.

    Attributes:
        parts: by name.
        paused: whether the kill switch is thrown.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.paused = False
        self._paused_parts: list[Part] = []
        self._always_on: set[str] = set()
        self._closed = False

    def part(self, name: str, *, always_on: bool = False) -> Part:
        """The part of that name, made at first use.

        Args:
            name: of the part, as the label of its series.
            always_on: the kill switch leaves it on: it is what asks for the switch.
        """
        part = self.parts.get(name)
        if part is None:
            part = self.parts.setdefault(name, Part(name))
            if always_on:
                self._always_on.add(name)
            elif self.paused:
                self._pause(part)
        return part

    def pause(self) -> None:
        """Switch every part off that is on; idempotent."""
        self.paused = True
        for name, part in list(self.parts.items()):
            if part.enabled and name not in self._always_on:
                self._pause(part)

    def _pause(self, part: Part) -> None:
        part.enabled = False
        self._paused_parts.append(part)

    def resume(self) -> None:
        """Switch on what `pause` switched off; parts with an error stay off."""
        self.paused = False
        parts, self._paused_parts = self._paused_parts, []
        for part in parts:
            part.enabled = not (part.errors or self._closed)

    def close(self) -> None:
        """The probe is taken out: nothing is switched on any more."""
        self._closed = True
