"""A sync gRPC server in several processes that share a port, each replaced when it dies.

    python prefork.py fork|forkserver|spawn PORT WORKERS

Says `ready PID` for every worker that serves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

import grpc

SERVICE = "prefork.Workers"
THREADS = 2


def who(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    """The process that answers."""
    return str(os.getpid()).encode()


def work(port: int) -> None:
    """One worker, until it is ended."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 1)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(who)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Who": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(f"ready {os.getpid()}", flush=True)
    server.wait_for_termination()


def start(context: BaseContext, port: int) -> BaseProcess:
    """A new worker."""
    worker: BaseProcess = context.Process(target=work, args=(port,))  # type: ignore[attr-defined]
    worker.start()
    return worker


def supervise(context: BaseContext, port: int, workers: int) -> None:
    """Keep so many workers alive until SIGTERM, which ends them, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    running = [start(context, port) for _ in range(workers)]
    try:
        while True:
            wait([worker.sentinel for worker in running])
            dead = [worker for worker in running if not worker.is_alive()]
            running = [worker for worker in running if worker not in dead]
            running += [start(context, port) for _ in dead]
    finally:
        for worker in running:
            worker.terminate()
            worker.join()


if __name__ == "__main__":
    supervise(multiprocessing.get_context(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
