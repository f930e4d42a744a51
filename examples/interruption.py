"""Ctrl-C, SIGTERM and a closed terminal: noted at once, acted on only where it is safe."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_EXIT_STATUS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupted(Exception):
    """Somebody asked the program to stop; ``exit_status`` is what the shell expects then."""

    def __init__(self, exit_status: int) -> None:
        super().__init__(f"interrupted (exit status {exit_status})")
        self.exit_status = exit_status


class Interruption:
    """Turns signals into an exception, but only inside ``sleep``.

    An exception out of a signal handler could fall between starting a process and noting that
    it was started, and leave it behind. Nothing can fall between here: whoever waits, asks.
    """

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._exit_status = 0
        for signal_number in _EXIT_STATUS:
            signal.signal(signal_number, self._note)

    def sleep(self, seconds: float) -> None:
        """Wait that long; raises Interrupted as soon as a signal has come."""
        if self._wake.wait(max(0.0, seconds)):
            raise Interrupted(self._exit_status)

    def _note(self, signal_number: int, _frame: FrameType | None) -> None:
        self._exit_status = _EXIT_STATUS[signal.Signals(signal_number)]
        self._wake.set()
