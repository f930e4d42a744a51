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
    """All parts of the probe in this process."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}

    def part(self, name: str) -> Part:
        """The part of that name, made at first use."""
        return self.parts.setdefault(name, Part(name))
