"""Real programs for the length of a test: their output in files, none of them left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.scripts import ROOT
from tests.support.waiting import LIMIT_SECONDS, until

PINCHPOINT = (sys.executable, "-m", "pinchpoint")
ANY_PORT = "--web.listen-address=127.0.0.1:0"
PAUSE_SECONDS = 0.05


class Program:
    """A running program, the leader of a session of its own."""

    def __init__(self, command: Sequence[str], directory: Path, number: int) -> None:
        self._out = directory / f"program-{number}.out"
        self._err = directory / f"program-{number}.err"
        plain = {k: v for k, v in os.environ.items() if not k.startswith("PINCHPOINT_")}
        search_path = os.pathsep.join((str(ROOT / "agent"), str(ROOT)))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=plain | {"PYTHONPATH": search_path, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """The same of its standard error."""
        return self._err.read_text(errors="replace")

    def says(self, pattern: str) -> str:
        """Wait until either stream has a match; its first group.

        Raises:
            AssertionError: the program has ended, or has not said it in time.
        """

        def ask() -> re.Match[str] | bool | None:
            time.sleep(PAUSE_SECONDS)
            ended = self.process.poll() is not None
            found = re.search(pattern, self.out + self.err, re.MULTILINE)
            return found or ended

        found = until(ask)
        assert isinstance(found, re.Match), f"never said {pattern!r}:\n{self.out}{self.err}"
        return str(found[1])

    def wait(self, seconds: float = LIMIT_SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Ask it to end, and wait for that: its exit code."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.process.kill()
        self.process.wait(LIMIT_SECONDS)

    def close(self) -> None:
        """End it, kindly at first, and whatever is left of its session."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LIMIT_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(LIMIT_SECONDS)


class Programs:
    """Starts programs.

    Args:
        directory: for their output.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Program] = []

    def start(self, *command: str) -> Program:
        """Start any program."""
        program = Program(command, self._directory, len(self._started))
        self._started.append(program)
        return program

    def python(self, *arguments: str) -> Program:
        """Start a Python program."""
        return self.start(sys.executable, *arguments)

    def close(self) -> None:
        """End them all, the youngest first."""
        for program in reversed(self._started):
            program.close()


@contextlib.contextmanager
def programs(directory: Path) -> Iterator[Programs]:
    """Programs that end with the block."""
    started = Programs(directory)
    try:
        yield started
    finally:
        started.close()


def needed(name: str) -> str:
    """The path of a program that is not ours. Without it the test is skipped, but fails in CI."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed (scripts/system-packages tests)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
