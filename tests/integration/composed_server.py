"""A server whose requests are made of known parts: a wait for the one worker, CPU, and a sleep.

python -m tests.integration.composed_server CPU_MS SLEEP_MS

Each answer says, by clocks of its own, what its handler did (`Inside`). Who asks for it is told
when its worker had each request, which is a little longer (`Around`). Times are nanoseconds of
CLOCK_MONOTONIC.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

import grpc

from tests.support.truth import NotingPool, own_ns

METHOD = "/test.Composed/Handle"
AROUND_METHOD = "/test.Composed/Around"

_CHUNK = bytes(1 << 16)


class Inside(NamedTuple):
    """From the first line of a handler to its last."""

    begin_ns: int
    end_ns: int
    cpu_ns: int
    sleep_ns: int
    still_ns: int
    """What of the sleep was neither spent on a CPU nor waiting for one."""


class Around(NamedTuple):
    """From before the probe saw a request until after it was done with it."""

    came_ns: int
    submitted_ns: int
    begun_ns: int
    ended_ns: int
    cpu_ns: int


class Composed(grpc.GenericRpcHandler):
    """Notes the arrival of each call on the serving thread; one worker takes them in that order."""

    def __init__(self, cpu_ns: int, sleep_seconds: float) -> None:
        self.pool = NotingPool()
        self._cpu_ns = cpu_ns
        self._sleep_seconds = sleep_seconds
        self._came_ns: list[int] = []

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Called by grpcio right before it hands a call to the pool."""
        self._came_ns.append(time.monotonic_ns())
        handlers = {METHOD: self._handle, AROUND_METHOD: self._around}
        return grpc.unary_unary_rpc_method_handler(handlers[str(handler_call_details.method)])

    def _handle(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        begin_ns = time.monotonic_ns()
        cpu_ns = -time.thread_time_ns()
        burn(self._cpu_ns - cpu_ns)
        busy_ns, sleep_ns = -own_ns(), -time.monotonic_ns()
        time.sleep(self._sleep_seconds)
        sleep_ns += time.monotonic_ns()
        busy_ns += own_ns()
        cpu_ns += time.thread_time_ns()
        end_ns = time.monotonic_ns()
        return json.dumps((begin_ns, end_ns, cpu_ns, sleep_ns, sleep_ns - busy_ns)).encode()

    def _around(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        """Of all calls before this one."""
        done = zip(self._came_ns, self.pool.tasks[:-1], strict=False)
        return json.dumps(
            [(came_ns, t.submitted_ns, t.begun_ns, t.ended_ns, t.cpu_ns) for came_ns, t in done]
        ).encode()


def burn(until_ns: int) -> None:
    """Use CPU until the thread's clock says so. Hashing lets go of the interpreter lock."""
    while time.thread_time_ns() < until_ns:
        hashlib.sha256(_CHUNK).digest()


def main(cpu_ms: str, sleep_ms: str) -> None:
    """Serve until SIGTERM."""
    stop = threading.Event()
    handler: Any = Composed(int(cpu_ms) * 1_000_000, int(sleep_ms) / 1000)
    server = grpc.server(handler.pool)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stop.wait()
    server.stop(1.0).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
