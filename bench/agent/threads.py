"""What the probe's own threads use in a server with 64 threads: heartbeat, looks at stacks,
samplers, by the scheduler's account of each thread."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.agent.processes import SHARED_MEMORY
from bench.agent.threads_server import IDLE, THREADS, WAIT, WORK
from bench.overhead import environment
from bench.overhead.echo import MESSAGE, PATH
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.events import StackEvent
from pinchpoint.schema.samples import ProbeSample, ThreadsSample
from pinchpoint.sidecar.attach import Rings

ARMS: dict[str, tuple[str, ...]] = {
    "64 threads that serve nothing": (IDLE,),
    "64 requests that wait": (WAIT,),
    "64 requests that wait, governor off": (WAIT, "--ungoverned"),
    "64 requests at work": (WORK,),
    "64 requests at work, governor off": (WORK, "--ungoverned"),
}
WARM_UP_SECONDS = 5
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Share:
    """One server, over some seconds. Cores are CPU seconds a second.

    `looks_per_second` are looks at one request each; `sampling_ratio` is what the governor left
    of the sampling.
    """

    arm: str
    seconds: float
    by_thread: dict[str, float]
    process_cores: float
    looks_per_second: float
    sampling_ratio: float

    @property
    def cores(self) -> float:
        """Of all threads of the probe."""
        return sum(self.by_thread.values())


def shares(seconds: int, progress: Callable[[str], None]) -> Iterator[Share]:
    """Measure each server for so many seconds.

    Raises:
        RuntimeError: a server did not start, or its samplers did not run.
    """
    for arm, arguments in ARMS.items():
        progress(arm)
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(dir=SHARED_MEMORY))
            server = stack.enter_context(_Server(arguments, directory))
            if IDLE not in arguments:
                stack.enter_context(_callers(server.port))
            ring = stack.enter_context(_Ring(Path(directory)))
            ring.watch(WARM_UP_SECONDS)
            ring.forget()
            begin, before = time.monotonic(), server.used()
            ring.watch(seconds)
            passed, after = time.monotonic() - begin, server.used()
            ring.check(arm, passed)
            used = {
                name: (after.threads[name] - cpu_seconds) / passed
                for name, cpu_seconds in before.threads.items()
            }
            cores = (after.process - before.process) / passed
            yield Share(arm, passed, used, cores, ring.looks / passed, ring.sampling_ratio)


@dataclass(frozen=True)
class _Used:
    """CPU seconds."""

    process: float
    threads: dict[str, float]


class _Server:
    def __init__(self, arguments: tuple[str, ...], directory: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.agent.threads_server", *arguments],
            cwd=environment.REPOSITORY,
            env={**environment.variables(), "PINCHPOINT_RING_DIR": directory},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def __enter__(self) -> _Server:
        self.port = int(self._line())
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def used(self) -> _Used:
        """So far."""
        print(file=self._commands, flush=True)
        return _Used(**json.loads(self._line()))

    def _line(self) -> str:
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the server with 64 threads has died")
        return line


@contextmanager
def _callers(port: int) -> Iterator[None]:
    """64 callers, each with one request under way."""
    import grpc

    ended = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(PATH)

        def keep_calling() -> None:
            while not ended.is_set():
                try:
                    call(MESSAGE)
                except (grpc.RpcError, ValueError):  # ValueError: the channel is closed
                    return

        for _ in range(THREADS):
            threading.Thread(target=keep_calling, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


class _Ring:
    """Reads the server's ring: whether the probe did what its cost is measured of."""

    def __init__(self, directory: Path) -> None:
        self._rings = Rings(directory, lambda sentence: print(sentence, file=sys.stderr))
        self.forget()

    def __enter__(self) -> _Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self._rings.close()

    def forget(self) -> None:
        """Count from here."""
        self.looks = self._readings = 0
        self._ratios: list[float] = []

    def watch(self, seconds: int) -> None:
        """Read once a second."""
        for _ in range(seconds):
            time.sleep(1.0)
            for arrival in self._rings.poll(Anchor(time.monotonic_ns(), time.time_ns())):
                record = arrival.observation.record
                self.looks += isinstance(record, StackEvent)
                self._readings += isinstance(record, ThreadsSample)
                if isinstance(record, ProbeSample) and record.budget_ratio is not None:
                    self._ratios.append(record.budget_ratio)

    @property
    def sampling_ratio(self) -> float:
        """Mean of what the governor left."""
        return sum(self._ratios) / len(self._ratios)

    def check(self, arm: str, seconds: float) -> None:
        """See that the samplers ran about once a second."""
        if min(self._readings, len(self._ratios)) < seconds / 2:
            raise RuntimeError(f"{arm}: the threads were read {self._readings} times")
