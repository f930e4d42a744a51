"""The open connections. Each has a time at which it is cut, whatever its client does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

CONNECTIONS_MAX = 32
"""Each has a thread. Scrapers are few; whoever needs more finds out by a 503."""

HEAD_SECONDS = 10.0
"""For the TLS handshake, and for a request from its first byte to its last."""

ANSWER_SECONDS = 30.0
"""For making an answer and for the client to take it; scrapers give up after 10 s by default."""

IDLE_SECONDS = 120.0
"""Between two requests: longer than the usual scrape intervals."""


class Connection:
    """One connection; `socket` is the TLS socket once there is one."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.idle = False
        self.expect(HEAD_SECONDS)

    def expect(self, seconds: float, *, idle: bool = False) -> None:
        """Set the time by which its thread must say something else."""
        self.idle = idle
        self.deadline = time.monotonic() + seconds

    def cut(self) -> None:
        """End it: its thread finds it closed, wherever it is reading or writing."""
        with contextlib.suppress(OSError):
            # Not a TLS socket's own: that would take the session from under its thread.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class Connections:
    """The table of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, Connection] = {}

    def admit(self, accepted: socket.socket) -> bool:
        """Take a connection in, in place of one that idles if need be; False if all are busy."""
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX:
                idle = [key for key, connection in self._open.items() if connection.idle]
                if not idle:
                    return False
                self._open.pop(min(idle, key=lambda key: self._open[key].deadline)).cut()
            self._open[accepted] = Connection(accepted)
            return True

    def of(self, accepted: socket.socket) -> Connection:
        """The connection of an admitted socket."""
        with self._lock:
            return self._open[accepted]

    def forget(self, accepted: socket.socket) -> None:
        """Its thread has ended."""
        with self._lock:
            self._open.pop(accepted, None)

    def cut_overdue(self) -> None:
        """Cut those whose time has come."""
        now = time.monotonic()
        with self._lock:
            for connection in self._open.values():
                if connection.deadline < now:
                    connection.cut()

    def cut_all(self) -> None:
        """Cut every one."""
        with self._lock:
            for connection in self._open.values():
                connection.cut()
