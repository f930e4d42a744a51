"""The service that every variant serves: one tiny protobuf message, sent back as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SERVICE, METHOD = "bench.Echo", "Echo"
PATH = f"/{SERVICE}/{METHOD}"
MESSAGE = b"\x0a\x04ping"
"""A `google.protobuf.StringValue`."""


def echo(request: Any, _context: Any) -> Any:
    """The handler of the sync server."""
    return request


async def echo_aio(request: Any, _context: Any) -> Any:
    """The handler of the aio server."""
    return request


def register(server: Any, behaviour: Callable[..., Any]) -> None:
    """Add the service to a server, both ways, as generated code does."""
    import grpc
    from google.protobuf.wrappers_pb2 import StringValue

    handlers = {
        METHOD: grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)
