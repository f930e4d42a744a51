"""Waiting, and what ends it: SIGTERM, SIGINT, or the end of the process that started us."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from types import FrameType

_SIGNALS_MAX = 256
"""Bytes of the pipe read at once, one for each signal."""


class StopRequests:
    """Takes over SIGTERM, SIGINT and SIGHUP of this process.

    Args:
        parent: a socket that the starting process holds the other end of and never writes to:
            the kernel closes it even when that process is killed.
        on_hangup: called in `wait` when SIGHUP came. A SIGHUP because our terminal has gone away
            ends us, as it ends any program that is run by hand without nohup.
    """

    def __init__(
        self, parent: socket.socket | None = None, on_hangup: Callable[[], object] = lambda: None
    ) -> None:
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._parent = -1 if parent is None else parent.fileno()
        self._on_hangup = on_hangup
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._ends_with_terminal = _has_terminal() and not ignored
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _noted)

    def wait(self, seconds: float) -> bool:
        """Sleep, less if a signal comes; False when somebody wants us to stop."""
        descriptors = [self._woken] if self._parent < 0 else [self._woken, self._parent]
        readable, _, _ = select.select(descriptors, [], [], seconds)
        if self._parent in readable:
            return False
        numbers = os.read(self._woken, _SIGNALS_MAX) if self._woken in readable else b""
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            return False
        if signal.SIGHUP in numbers:
            if self._ends_with_terminal and not _has_terminal():
                return False
            self._on_hangup()
        return True


def _has_terminal() -> bool:
    """Whether a terminal controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The signal's number is in the pipe; without a handler it would end the process."""
