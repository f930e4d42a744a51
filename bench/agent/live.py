"""The agent's own process beside a server that serves 1,000 requests a second.

Everything is real but the server: the ring, the agent with its web server, and Prometheus'
scrapes every 15 s. One agent also keeps a recording. They run side by side, each with a server
of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.agent.processes import SHARED_MEMORY, CpuSeconds, cpu_seconds, resident_bytes
from bench.agent.scraping import OPENMETRICS, get, value
from bench.overhead import environment

WARM_UP_SECONDS = 15
"""The detector's window is full after ten."""
SCRAPE_SECONDS = 15
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Second:
    """What an agent had used by the end of a second."""

    arm: str
    second: int
    user_seconds: float
    system_seconds: float
    resident_bytes: int


def seconds(duration: int, progress: Callable[[str], None]) -> Iterator[Second]:
    """Watch both agents for so many seconds after their start.

    Raises:
        RuntimeError: an agent lost records, or did not see all that were written.
    """
    with ExitStack() as stack:
        agents = [
            stack.enter_context(_Served(arm, record=record))
            for arm, record in (("full capture", False), ("and recorded", True))
        ]
        begin = time.monotonic()
        for second in range(WARM_UP_SECONDS + duration):
            time.sleep(max(0.0, begin + second - time.monotonic()))
            if second % SCRAPE_SECONDS == 0:
                progress(f"second {second} of {WARM_UP_SECONDS + duration}")
                for agent in agents:
                    agent.scrape()
            if second >= WARM_UP_SECONDS:
                for agent in agents:
                    yield agent.read(second - WARM_UP_SECONDS)
        for agent in agents:
            agent.check()


class _Served:
    """An agent and its server."""

    def __init__(self, arm: str, *, record: bool) -> None:
        self.arm = arm
        self._record = record
        self._stack = ExitStack()

    def __enter__(self) -> _Served:
        with ExitStack() as stack:
            rings = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=SHARED_MEMORY)))
            elsewhere = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            recording = elsewhere / "bench.rec" if self._record else None
            self._agent = stack.enter_context(Agent(rings, recording))
            self._server = stack.enter_context(_module("bench.agent.server", str(rings)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def scrape(self) -> None:
        """As Prometheus does it."""
        get(self._agent.address, OPENMETRICS, gzip=True)

    def read(self, second: int) -> Second:
        """What the agent has used."""
        process = self._agent.process_id
        return Second(self.arm, second, *cpu_seconds(process), resident_bytes(process))

    def check(self) -> None:
        """End the server, and see that the agent read all that it wrote."""
        written, _ = self._server.communicate(timeout=_STOP_SECONDS)
        seen = 0.0
        deadline = time.monotonic() + _STOP_SECONDS
        while seen < int(written) and time.monotonic() < deadline:
            time.sleep(0.25)
            text = get(self._agent.address, OPENMETRICS).text
            seen = value(text, "pinchpoint_ring_records_total")
        lost = value(text, "pinchpoint_ring_lost_records_total")
        if lost or seen < int(written):
            raise RuntimeError(f"{self.arm}: read {seen:.0f} of {written.strip()}, lost {lost:.0f}")


class Agent:
    """A `pinchpoint agent` of its own.

    Args:
        rings: the ring directory.
        recording: where to record, if at all.

    Attributes:
        address: `HOST:PORT` where it serves.
    """

    def __init__(self, rings: Path, recording: Path | None = None) -> None:
        options = ["--web.listen-address", "127.0.0.1:0", "--ring-dir", str(rings)]
        if recording is not None:
            options += ["--record", str(recording)]
        self._process = _module("pinchpoint", "agent", *options, stderr=subprocess.PIPE)
        self.process_id = self._process.pid

    def __enter__(self) -> Agent:
        assert self._process.stderr is not None
        self._said: IO[str] = self._process.stderr
        line = self._said.readline()
        if "http://" not in line:
            self._process.kill()
            self._process.wait()
            raise RuntimeError(f"the agent did not start: {line}{self._said.read()}")
        self.address = line.split("http://")[1].split("/")[0]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def used(first: Second, last: Second) -> CpuSeconds:
    """CPU per second of the time between two seconds of one arm."""
    passed = last.second - first.second
    return CpuSeconds(
        (last.user_seconds - first.user_seconds) / passed,
        (last.system_seconds - first.system_seconds) / passed,
    )


def _module(*arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=environment.REPOSITORY,
        env=environment.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
