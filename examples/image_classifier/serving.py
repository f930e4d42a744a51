"""The listening gRPC server, which can be replaced while it serves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

_RESIZE_GRACE_S = 60.0


class CannotListen(OSError):
    """The address is in use or does not exist."""


class Serving:
    """A thread-pool server on one port whose number of workers can change.

    A pool cannot shrink, so a change starts a second server on the same port and lets the first
    one finish what it has begun. Both may listen for a moment, hence SO_REUSEPORT.
    """

    def __init__(self, handler: Any, listen: str, workers: int) -> None:
        self._handler = handler
        self._lock = threading.Lock()
        self._server, port = self._start(listen, workers)
        self.address = f"{listen.rpartition(':')[0]}:{port}"
        self._drained = threading.Event()
        self._drained.set()

    def resize(self, workers: int) -> None:
        """Serve with that many workers from now on."""
        with self._lock:
            retired = self._server
            self._server, _ = self._start(self.address, workers)
            self._drained = retired.stop(_RESIZE_GRACE_S)

    def stop(self, grace_s: float) -> None:
        """Accept nothing more and wait until the requests under way are done."""
        with self._lock:
            self._server.stop(grace_s).wait()
            self._drained.wait(grace_s)

    def _start(self, listen: str, workers: int) -> tuple[Any, int]:
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="grpc-worker")
        server = grpc.server(pool, options=[("grpc.so_reuseport", 1)])
        server.add_generic_rpc_handlers((self._handler,))
        try:
            port = server.add_insecure_port(listen)
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {listen}: {error}") from None
        server.start()
        return server, port
