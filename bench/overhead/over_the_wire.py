"""Each variant's echo server under h2load: CPU of an RPC, latency, throughput, memory.

The servers of a generation live side by side and are loaded in turns, one at a time. Client
and server share the machine's cores. Each turn is checked: the variant counted every RPC.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import IO, Any

from bench.overhead import environment, h2load, interleaved
from bench.overhead.variants import OPENTELEMETRY

WARM_UP_RPCS = 1_000
_STOP_SECONDS = 15.0

COUNTED_AT_LEAST = {OPENTELEMETRY: 0.5}
"""Its batch processor drops spans when its queue is full; the others miss nothing."""


@dataclass(frozen=True)
class Turn:
    """One server under one load."""

    kind: str
    arm: str
    shape: str
    generation: int
    round: int
    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Memory:
    """A server that has warmed up, in bytes."""

    kind: str
    arm: str
    generation: int
    resident: int
    shared: int


def turns(
    kind: str,
    arms: Sequence[str],
    *,
    generations: int,
    rounds: int,
    requests: Mapping[str, int],
) -> Iterator[Turn | Memory]:
    """Load every server in every round, in a new order each.

    Args:
        kind: `sync` or `aio`.
        arms: the variants.
        generations: how often the servers are started anew.
        rounds: of each generation.
        requests: of a turn, by the load's shape.

    Raises:
        RuntimeError: a server failed, or did not count what it served.
    """
    python = str(environment.python())
    orders = interleaved.shuffled(arms)
    for generation in range(generations):
        with ExitStack() as stack:
            servers = {arm: stack.enter_context(_Server(python, kind, arm)) for arm in arms}
            for arm, server in servers.items():
                memory = server.warm_up()
                yield Memory(kind, arm, generation, memory["VmRSS"], memory["RssShmem"])
            for number in range(rounds):
                for shape in h2load.SHAPES:
                    for arm in next(orders):
                        cpu_us, load = servers[arm].load(shape, requests[shape.name])
                        yield Turn(
                            kind, arm, shape.name, generation, number, cpu_us, **asdict(load)
                        )


class _Server:
    """One echo server."""

    def __init__(self, python: str, kind: str, arm: str) -> None:
        self._arm = arm
        self._sent = self._counted = 0
        self._process = subprocess.Popen(
            [python, "-m", "bench.overhead.echo_server", kind, arm],
            cwd=environment.REPOSITORY,
            env=environment.variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def warm_up(self) -> dict[str, int]:
        """The memory of the process after some RPCs of each shape."""
        self._port = int(self._line())
        for shape in h2load.SHAPES:
            self.load(shape, WARM_UP_RPCS)
        memory: dict[str, int] = self._ask(self._sent)["memory"]
        return memory

    def load(self, shape: h2load.Shape, requests: int) -> tuple[float, h2load.Load]:
        """CPU microseconds of an RPC, all threads of the server together, and the client's view."""
        begin_ns: int = self._ask("clock")
        load = h2load.run(self._port, shape, requests)
        cpu_us = (self._ask("clock") - begin_ns) / requests / 1e3
        self._check(requests)
        return cpu_us, load

    def _check(self, requests: int) -> None:
        self._sent += requests
        total: int | None = self._ask(self._counted + requests)["counted"]
        if total is None:
            return
        counted, self._counted = total - self._counted, total
        if not COUNTED_AT_LEAST.get(self._arm, 1) * requests <= counted <= requests:
            raise RuntimeError(f"{self._arm} counted {counted} of {requests} RPCs")

    def _ask(self, command: object) -> Any:
        print(command, file=self._commands, flush=True)
        return json.loads(self._line())

    def _line(self) -> str:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the server of {self._arm} has died")
        return line
