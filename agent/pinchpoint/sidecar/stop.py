"""Waiting, and what ends it: SIGTERM, SIGINT, or the end of the process that started us."""

from __future__ import annotations

import os
import select
import signal
import socket
from types import FrameType


class StopRequests:
    """Takes over SIGTERM and SIGINT of this process.

    Args:
        parent: a socket that the starting process holds the other end of and never writes to:
            the kernel closes it even when that process is killed.
    """

    def __init__(self, parent: socket.socket | None = None) -> None:
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _noted)
        self._descriptors = [woken] if parent is None else [woken, parent.fileno()]

    def wait(self, seconds: float) -> bool:
        """Sleep; False as soon as somebody wants us to stop."""
        readable, _, _ = select.select(self._descriptors, [], [], seconds)
        return not readable


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The signal's number is in the pipe; without a handler it would end the process."""
