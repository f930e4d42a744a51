"""A real `grpc.aio` server on a loop and a thread of its own, and a sync channel to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from tests.support.servers import SERVICE, call_outcome
from tests.support.waiting import LIMIT_SECONDS


@dataclass(frozen=True)
class AioServed:
    """A running server. Its methods take and give bytes unless their handlers say otherwise."""

    server: Any
    loop: asyncio.AbstractEventLoop
    channel: Any
    target: str

    def call(self, method: str, request: bytes = b"x", **kwargs: Any) -> Any:
        """Call a unary method and return its response.

        Raises:
            grpc.RpcError: the RPC failed.
        """
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(request, **kwargs)

    def code(self, method: str, request: bytes = b"x", **kwargs: Any) -> grpc.StatusCode:
        """The status that a client of a unary method sees."""
        return call_outcome(self.channel, method, request, **kwargs)[1]


@contextmanager
def running_loop(name: str = "aio-loop", **options: Any) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of that name."""
    loop = asyncio.new_event_loop()
    loop.set_debug(options.get("debug", False))

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_SECONDS)
        loop.close()


@contextmanager
def serving_aio(
    handlers: Mapping[str, Any],
    *,
    generic: bool = True,
    registered: bool = True,
    others: tuple[Any, ...] = (),
    pool: Executor | None = None,
    debug: bool = False,
    **options: Any,
) -> Iterator[AioServed]:
    """A server with these methods, registered both ways as generated code does.

    `others` are further generic handlers.
    """

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(pool, handlers=others, **options)
        if generic:
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(SERVICE, dict(handlers)),)
            )
        if registered and hasattr(server, "add_registered_method_handlers"):
            server.add_registered_method_handlers(SERVICE, dict(handlers))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    with running_loop(debug=debug) as loop:

        def do(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(LIMIT_SECONDS)

        server, port = do(start())
        target = f"127.0.0.1:{port}"
        try:
            with grpc.insecure_channel(target) as channel:
                yield AioServed(server, loop, channel, target)
        finally:
            do(server.stop(None))
