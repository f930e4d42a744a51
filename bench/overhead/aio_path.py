"""The Python path of one aio unary RPC, without the network.

`grpc._cython.cygrpc` runs as it is, from its `_handle_rpc` in a task of the RPC; what is below
that (receiving a message, sending a batch) is replaced by coroutines that are done at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bench.overhead.echo import MESSAGE, PATH, register
from bench.overhead.sync_path import METADATA, PEER
from bench.overhead.variants import Bare


class Core:
    """Stands in for the C core. Made before a variant is installed, which may wrap its parts."""

    def __init__(self) -> None:
        import grpc.aio
        from grpc._cython import cygrpc  # type: ignore[attr-defined,unused-ignore]  # not in the stubs

        class Server(cygrpc.AioServer):  # type: ignore[misc]  # has no types
            """Keeps what it is given where we can see it."""

            def __init__(
                self, loop: Any, pool: Any, generic: Any, interceptors: Any, *rest: Any
            ) -> None:
                self.generic, self.registered = list[Any](), dict[str, Any]()
                self.interceptors = tuple(interceptors or ())
                super().__init__(loop, pool, generic, interceptors, *rest)

            def add_generic_rpc_handlers(self, handlers: Any) -> None:
                self.generic.extend(handlers)

            def add_registered_method_handlers(self, handlers: Any) -> None:
                self.registered.update(handlers)

        class Context(cygrpc._ServicerContext):  # type: ignore[misc]  # has no types
            """What would ask the core is answered here."""

            def invocation_metadata(self) -> Any:
                return METADATA

            def peer(self) -> str:
                return PEER

        finish = cygrpc._finish_handler_with_unary_response

        def finish_with_context(
            state: Any, handler: Any, request: Any, _context: Any, serializer: Any, loop: Any
        ) -> Any:
            context = Context(state, None, None, loop)
            return finish(state, handler, request, context, serializer, loop)

        async def receive(_state: Any, _loop: Any) -> bytes:
            return MESSAGE

        async def execute(_state: Any, operations: Any, _loop: Any) -> None:
            self.codes.extend(
                operation._code
                for operation in operations
                if isinstance(operation, cygrpc.SendStatusFromServerOperation)
            )

        self.codes: list[int] = []
        self.aio, self.cygrpc = grpc.aio, cygrpc
        cygrpc.AioServer = Server
        cygrpc._finish_handler_with_unary_response = finish_with_context
        cygrpc._receive_message = receive
        cygrpc.execute_batch = execute


class AioServer:
    """A `grpc.aio.server` of one variant, and the RPCs that it is made to believe in.

    Args:
        core: what is below it.
        variant: has been installed.
        behaviour: the handler.
    """

    def __init__(self, core: Core, variant: Bare, behaviour: Callable[[Any, Any], Any]) -> None:
        self._core = core
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._make(variant, behaviour))

    async def _make(self, variant: Bare, behaviour: Callable[[Any, Any], Any]) -> None:
        self._server: Any = self._core.aio.server(interceptors=list(variant.aio_interceptors()))
        register(self._server, behaviour)
        variant.ready()
        held = self._server._server
        self._resolver = self._core.cygrpc._MethodResolver(held.generic, held.registered)

    async def _rpcs(self, count: int) -> None:
        cygrpc, loop, held = self._core.cygrpc, self._loop, self._server._server
        for _ in range(count):
            state = cygrpc.RPCState(held)
            coroutine = cygrpc._handle_rpc(
                PATH, self._resolver, held.interceptors, state, loop, False
            )
            await loop.create_task(coroutine, name=f"HandleExceptions[{PATH}]")

    def rpcs(self, count: int) -> None:
        """Serve `count` RPCs.

        Raises:
            RuntimeError: one of them did not end with OK.
        """
        codes = self._core.codes
        codes.clear()
        self._loop.run_until_complete(self._rpcs(count))
        if len(codes) != count or any(codes):
            raise RuntimeError("the RPCs were not served")
