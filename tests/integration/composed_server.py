"""A server whose requests are made of known parts: a wait for the one worker, CPU, and a sleep.

python -m tests.integration.composed_server CPU_MS SLEEP_MS

Each answer says, by clocks of its own and on CLOCK_MONOTONIC, what really became of it (`Truth`).
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc

METHOD = "/test.Composed/Handle"

_CHUNK = bytes(1 << 16)


class Truth(NamedTuple):
    """What a request consisted of, in nanoseconds."""

    arrival_ns: int
    begin_ns: int
    cpu_ns: int
    sleep_ns: int
    wall_ns: int


class Composed(grpc.GenericRpcHandler):
    """Serves one method; notes the arrival of each call on the serving thread.

    One worker takes calls in the order of their arrival.
    """

    def __init__(self, cpu_ns: int, sleep_seconds: float) -> None:
        self._cpu_ns = cpu_ns
        self._sleep_seconds = sleep_seconds
        self._arrivals: deque[int] = deque()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Called by grpcio right before it hands a call to the pool."""
        if handler_call_details.method != METHOD:
            return None
        self._arrivals.append(time.monotonic_ns())
        return grpc.unary_unary_rpc_method_handler(self._handle)

    def _handle(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        begin_ns = time.monotonic_ns()
        cpu_begin_ns = time.thread_time_ns()
        burn(cpu_begin_ns + self._cpu_ns)
        sleep_begin_ns = time.monotonic_ns()
        time.sleep(self._sleep_seconds)
        sleep_ns = time.monotonic_ns() - sleep_begin_ns
        cpu_ns = time.thread_time_ns() - cpu_begin_ns
        wall_ns = time.monotonic_ns() - begin_ns
        truth = Truth(self._arrivals.popleft(), begin_ns, cpu_ns, sleep_ns, wall_ns)
        return json.dumps(truth).encode()


def burn(until_ns: int) -> None:
    """Use CPU until the thread's clock says so. Hashing lets go of the interpreter lock."""
    while time.thread_time_ns() < until_ns:
        hashlib.sha256(_CHUNK).digest()


def main(cpu_ms: str, sleep_ms: str) -> None:
    """Serve until SIGTERM."""
    stop = threading.Event()
    handler: Any = Composed(int(cpu_ms) * 1_000_000, int(sleep_ms) / 1000)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stop.wait()
    server.stop(1.0).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
