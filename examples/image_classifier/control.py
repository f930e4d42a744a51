"""The control socket: JSON lines on a unix socket switch the server's faults on and off.

Request ``{"fault": "gil", "on": true}``, reply ``{"ok": true}`` or ``{"ok": false, "error": ...}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
from typing import Any

from examples.image_classifier.switches import Switch

_SILENCE_S = 1.0


class ControlSocket:
    """Serves the switches from a small thread until it is closed."""

    def __init__(self, path: str, switches: dict[str, Switch]) -> None:
        self._path = path
        self._switches = switches
        self._state = dict.fromkeys(switches, False)
        answer = self._answer

        class Handler(socketserver.StreamRequestHandler):
            # One connection at a time: a silent one must not keep others, or the stop, waiting.
            timeout = _SILENCE_S

            def handle(self) -> None:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    for line in self.rfile:
                        self.wfile.write(json.dumps(answer(line)).encode() + b"\n")

        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._server = socketserver.UnixStreamServer(path, Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="control", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Switch everything off, end the thread and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        for fault, on in self._state.items():
            if on:
                self._switches[fault](False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
            fault, on = command["fault"], command["on"]
        except (ValueError, KeyError, TypeError):
            return {"ok": False, "error": 'expected {"fault": NAME, "on": true or false}'}
        if fault not in self._switches or not isinstance(on, bool):
            return {"ok": False, "error": f"unknown fault; the server has {list(self._switches)}"}
        if self._state[fault] != on:
            self._switches[fault](on)
            self._state[fault] = on
        return {"ok": True}
