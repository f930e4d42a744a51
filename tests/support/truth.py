"""What really happened, by clocks beside the probe's.

Both read CLOCK_MONOTONIC. A test takes one time just inside of what the probe measures and one
just outside of it: whatever the machine does meanwhile, what the probe says lies between them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.support.servers import SERVICE
from tests.support.waiting import LIMIT_SECONDS

REST_SECONDS = 0.2
"""How long a handler stands still where it has to do so for a while that can be seen."""


def own_ns() -> int:
    """What this thread has used of the CPU and waited for one: all but where it stood still."""
    _, run_queue_ns, _ = Path("/proc/thread-self/schedstat").read_text().split()
    return time.thread_time_ns() + int(run_queue_ns)


class Task:
    """One call of a function by a worker.

    Attributes:
        submitted_ns: when it came to the pool, after the probe had seen it.
        begun_ns: when its worker had it, before the probe.
        ended_ns: when its worker was done with it, after the probe.
        cpu_ns: what its worker used of the CPU in between.
        own_ns: the same, and the waits for a CPU.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.begun_ns = self.ended_ns = self.cpu_ns = self.own_ns = 0
        self._function = function
        self.submitted_ns = time.monotonic_ns()

    def run(self, *args: Any, **named: Any) -> Any:
        """What the worker executes."""
        self.own_ns, self.cpu_ns = -own_ns(), -time.thread_time_ns()
        self.begun_ns = time.monotonic_ns()
        try:
            return self._function(*args, **named)
        finally:
            self.ended_ns = time.monotonic_ns()
            self.cpu_ns += time.thread_time_ns()
            self.own_ns += own_ns()


class NotingPool(ThreadPoolExecutor):
    """A pool of a server.

    Attributes:
        tasks: what was submitted, in that order.
    """

    def __init__(self, workers: int = 1) -> None:
        super().__init__(workers)
        self.tasks: list[Task] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task = Task(fn)
        self.tasks.append(task)
        return super().submit(task.run, *args, **kwargs)


class Resting:
    """A handler that rests, and notes it. The first call rests until it is let go.

    Attributes:
        spans: first and last line of every call, in nanoseconds.
        let_go_ns: when the first call was let go.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.let_go_ns = 0
        self._open = threading.Event()
        self._rest = threading.Event()

    def __call__(self, request: bytes = b"", _context: Any = None) -> bytes:
        begin_ns = time.monotonic_ns()
        assert self._open.wait(LIMIT_SECONDS)
        self._rest.wait(REST_SECONDS)
        self.spans.append((begin_ns, time.monotonic_ns()))
        return request

    def let_go(self) -> None:
        """Whoever has come by now finds the worker busy for a while."""
        self.let_go_ns = time.monotonic_ns()
        self._open.set()


class Messages:
    """The messages of a stream: each was sent after it was given away and before the handler was
    asked for the next one.

    Attributes:
        given_ns: of every message, right before its `yield`.
        taken_ns: right after it.
    """

    def __init__(self) -> None:
        self.given_ns: list[int] = []
        self.taken_ns: list[int] = []

    def give(self) -> None:
        """The next line yields a message."""
        self.given_ns.append(time.monotonic_ns())

    def taken(self) -> None:
        """The line before has yielded one."""
        self.taken_ns.append(time.monotonic_ns())

    def shortest_gaps_ns(self) -> list[int]:
        """At least so long lay between two messages."""
        return [
            later - earlier
            for earlier, later in zip(self.taken_ns[:-1], self.given_ns[1:], strict=True)
        ]

    def longest_gaps_ns(self) -> list[int]:
        """At most so long."""
        return [
            later - earlier
            for earlier, later in zip(self.given_ns[:-1], self.taken_ns[1:], strict=True)
        ]

    def shortest_whole_ns(self) -> int:
        """At least so long lay between the first message and the last."""
        return self.given_ns[-1] - self.taken_ns[0]

    def longest_whole_ns(self) -> int:
        """At most so long."""
        return self.taken_ns[-1] - self.given_ns[0]


@contextmanager
def serving_from(pool: NotingPool, handlers: Mapping[str, Any]) -> Iterator[Any]:
    """A channel to a server with that pool; the times of all its tasks are noted at the end."""
    server = grpc.server(pool)
    generic: Any = grpc.method_handlers_generic_handler(SERVICE, dict(handlers))
    server.add_generic_rpc_handlers((generic,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(None).wait(LIMIT_SECONDS)
        pool.shutdown()
