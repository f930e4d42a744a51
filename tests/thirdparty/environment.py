"""Where scripts/third-party has put the servers that are not ours."""

from __future__ import annotations

import os
import socket
import subprocess

import psutil
import pytest

from tests.support.scripts import ROOT
from tests.support.waiting import LIMIT_SECONDS

VENV = ROOT / ".venv-third-party"
BIN = VENV / "bin"
PYTHON = BIN / "python"
EXAMPLES = VENV / "grpc-examples" / "python"
SERVERS = ROOT / "tests" / "thirdparty" / "servers"

_STAMP = VENV / "pinchpoint-third-party"


def needed() -> None:
    """Without the environment a test is skipped, but fails in CI."""
    if _STAMP.is_file():
        return
    reason = "the third-party servers are not installed (scripts/third-party)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: object, directory: object = None) -> str:
    """Run a client to its end: what it has printed.

    Raises:
        AssertionError: it failed.
    """
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=None if directory is None else str(directory),
        env=plain,
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def unused_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS):
            return True
    except ConnectionRefusedError:
        return False


def descendants(pid: int) -> list[int]:
    """The processes below a process."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
