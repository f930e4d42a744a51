"""A real gRPC server and a channel to it, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

SERVICE = "test.Service"


@dataclass(frozen=True)
class Served:
    """A running server. Its methods take and give bytes unless their handlers say otherwise."""

    server: grpc.Server
    channel: Any  # the stubs cannot name methods without message types
    target: str
    pool: ThreadPoolExecutor

    def call(self, method: str, request: bytes = b"x", **kwargs: Any) -> Any:
        """Call a unary method and return its response.

        Raises:
            grpc.RpcError: the RPC failed.
        """
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(request, **kwargs)

    def code(self, method: str, request: bytes = b"x", **kwargs: Any) -> grpc.StatusCode:
        """The status that a client of a unary method sees."""
        return call_outcome(self.channel, method, request, **kwargs)[1]


def call_outcome(
    channel: Any, method: str, request: bytes, **kwargs: Any
) -> tuple[Any, grpc.StatusCode]:
    """Response (None if it failed) and status of a unary call."""
    try:
        response, call = channel.unary_unary(f"/{SERVICE}/{method}").with_call(request, **kwargs)
        return response, call.code()
    except grpc.RpcError as error:
        return None, error.code()


def unary(behaviour: Any, **kwargs: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of one request and one response."""
    return grpc.unary_unary_rpc_method_handler(behaviour, **kwargs)


@contextmanager
def serving(
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
    *,
    workers: int = 4,
    generic: bool = True,
    registered: bool = True,
    **options: Any,
) -> Iterator[Served]:
    """A server with these methods, registered both ways as generated code does."""
    pool = ThreadPoolExecutor(workers)
    server = grpc.server(pool, **options)
    if generic:
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, dict(handlers)),)
        )
    if registered:
        server.add_registered_method_handlers(SERVICE, dict(handlers))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    target = f"127.0.0.1:{port}"
    try:
        with grpc.insecure_channel(target) as channel:
            yield Served(server, channel, target, pool)
    finally:
        server.stop(None).wait()
        pool.shutdown()


def number(code: grpc.StatusCode) -> int:
    """The canonical number of a status."""
    value: int = code.value[0]
    return value
