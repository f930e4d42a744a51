"""The processes of the demo: feature store, server under Pinchpoint, load. None is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from examples.interruption import Interruption

_REPOSITORY = Path(__file__).resolve().parents[1]
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_HTTP_TIMEOUT_S = 1.0
_CONTROL_TIMEOUT_S = 10.0
_TAIL_LINES = 15
# Longer than any demo: the load ends when it is told to.
_LOAD_SECONDS = 3600


class PartFailed(Exception):
    """A process of the demo died or did not start; the message has its last lines."""


class Part:
    """One child process, in a session of its own, with its output in files."""

    def __init__(self, name: str, arguments: Sequence[str], directory: Path) -> None:
        self.name = name
        self._stdout_path = directory / f"{name}.out"
        self._stderr_path = directory / f"{name}.err"
        environment = dict(os.environ)
        search_path = [str(_REPOSITORY), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
        with self._stdout_path.open("wb") as stdout, self._stderr_path.open("wb") as stderr:
            # Its own session: Ctrl-C reaches only us, and the whole group can be told to stop.
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=_REPOSITORY,
                env=environment,
                start_new_session=True,
            )

    def stdout(self) -> str:
        """Return what it has printed so far."""
        return self._stdout_path.read_text(errors="replace")

    def check(self) -> None:
        """Raise PartFailed when the process has ended."""
        status = self._process.poll()
        if status is not None:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise PartFailed(f"{self.name} {how}.{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of its standard error, or of its output, as text for a message."""
        for path in (self._stderr_path, self._stdout_path):
            lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            if lines:
                return " Its last lines:\n" + "\n".join(f"    {line}" for line in lines)
        return " It printed nothing."

    def stop(self) -> None:
        """Ask it to stop, wait, and then end whatever is left of its group."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Rig:
    """The running demo; a context manager that stops everything it started."""

    def __init__(self, interruption: Interruption, rate_per_s: float) -> None:
        self.interruption = interruption
        self.rate_per_s = rate_per_s
        self._directory = Path(tempfile.mkdtemp(prefix="pinchpoint-demo-"))
        self._parts: list[Part] = []
        self._load: Part | None = None
        self._control_path = self._directory / "control.sock"
        self._report_path = self._directory / "load.json"
        self._agent_address = f"127.0.0.1:{_free_port()}"
        self._server_address = f"127.0.0.1:{_free_port()}"
        self.feature_store_address = ""
        self.server_pid = 0

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # The load first, so that no request is cut off; the rest in the reverse order of starting.
        for part in reversed(self._parts):
            part.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def agent_url(self) -> str:
        """Base URL of the agent."""
        return f"http://{self._agent_address}"

    def start(self) -> None:
        """Start everything and return when requests flow."""
        store = self._start("feature-store", ["examples.feature_store", "--listen", "127.0.0.1:0"])
        self.feature_store_address = self._wait_for_listening(store)
        ring_directory = self._directory / "ring"
        ring_directory.mkdir()
        pinchpoint = ["pinchpoint", "run", "--web.listen-address", self._agent_address]
        pinchpoint += ["--ring-dir", str(ring_directory), "--", sys.executable, "-m"]
        server = ["examples.image_classifier", "--listen", self._server_address]
        server += ["--dependency", self.feature_store_address, "--control", str(self._control_path)]
        watched = self._start("server", pinchpoint + server)
        self._wait_until("the server listens", watched, self._server_listens)
        self._wait_until("the agent is ready", watched, self._agent_is_ready)
        self.server_pid = self._peer_pid()
        load = ["examples.load", "--target", self._server_address]
        load += ["--rate", str(self.rate_per_s), "--seconds", str(_LOAD_SECONDS)]
        self._load = self._start("load", [*load, "--report-file", str(self._report_path)])

    def check(self) -> None:
        """Raise PartFailed when any part has died."""
        for part in self._parts:
            part.check()
        if not Path(f"/proc/{self.server_pid}").exists():
            server = next(part for part in self._parts if part.name == "server")
            raise PartFailed(f"the inference server has ended.{server.last_lines()}")

    def verdict(self) -> dict[str, Any] | None:
        """Return the agent's verdict, or None when it does not answer in time."""
        try:
            with urllib.request.urlopen(
                f"{self.agent_url}/api/v1/verdict", timeout=_HTTP_TIMEOUT_S
            ) as response:
                document = json.load(response)
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def switch(self, fault: str, on: bool) -> None:
        """Throw a switch inside the server."""
        with self._connect_control() as connection:
            connection.sendall(json.dumps({"fault": fault, "on": on}).encode() + b"\n")
            with connection.makefile() as replies:
                reply = json.loads(replies.readline() or "{}")
        if not reply.get("ok"):
            raise OSError(f"the server refused the switch {fault!r}: {reply.get('error')}")

    def stop_load(self) -> dict[str, Any] | None:
        """End the load and return its summary, or None when it left none."""
        if self._load is None:
            return None
        self._load.stop()
        self._parts.remove(self._load)
        self._load = None
        try:
            summary = json.loads(self._report_path.read_text())
        except (OSError, ValueError):
            return None
        return summary if isinstance(summary, dict) else None

    def _start(self, name: str, arguments: Sequence[str]) -> Part:
        part = Part(name, arguments, self._directory)
        self._parts.append(part)
        return part

    def _wait_for_listening(self, part: Part) -> str:
        found: list[str] = []

        def listens() -> bool:
            found[:] = re.findall(r"^listening on (\S+)$", part.stdout(), re.MULTILINE)
            return bool(found)

        self._wait_until(f"{part.name} listens", part, listens)
        return found[0]

    def _wait_until(self, what: str, part: Part, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            part.check()
            if time.monotonic() > deadline_s:
                raise PartFailed(
                    f"waited {_START_TIMEOUT_S:.0f} s in vain until {what}.{part.last_lines()}"
                )
            self.interruption.sleep(0.1)

    def _server_listens(self) -> bool:
        server = next(part for part in self._parts if part.name == "server")
        return f"listening on {self._server_address}\n" in server.stdout()

    def _agent_is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"{self.agent_url}/-/ready", timeout=_HTTP_TIMEOUT_S
            ) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _peer_pid(self) -> int:
        """Return who listens on the control socket: the server, whatever started it."""
        with self._connect_control() as connection:
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
        pid, _, _ = struct.unpack("3i", credentials)
        return int(pid)

    def _connect_control(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_CONTROL_TIMEOUT_S)
            connection.connect(str(self._control_path))
        except OSError:
            connection.close()
            raise
        return connection


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
