"""The `grpc.aio` server, seen where its Cython half calls its own functions.

`grpc._cython.cygrpc` looks its coroutine functions up by name each time, so they are replaced
there, as those of `grpc._server` are for the sync server:

- `_handle_rpc` makes the coroutine of one RPC, from before its task exists to the status handed
  to the core; it is awaited through `AioRpc.run`. Interceptors and handlers lie within it.
- `_finish_handler_with_…` call the handler, whoever has supplied it.
- `_send_error_status_from_server`, `_receive_message`, `_send_message` and `_handle_…_stream_rpc`
  say what only some RPCs do.

Handlers keep their kind, by which grpcio decides how to run them. Whatever does not have the
expected shape passes through untouched and uncounted. A new server is asked for nothing but the
names of its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any
from weakref import WeakSet

from pinchpoint.probe.aio_rpc import AioRpc
from pinchpoint.probe.call import Call
from pinchpoint.probe.core_calls import CoreCalls, asker
from pinchpoint.probe.guard import Part
from pinchpoint.probe.loop_lag import LoopLag
from pinchpoint.probe.methods import METHODS_MAX, Method, Methods
from pinchpoint.probe.recorder import HASH, HASH_MASK, Recorder
from pinchpoint.probe.server_probe import ServerProbe, threads_of
from pinchpoint.probe.thread_state import call_of_context
from pinchpoint.schema.terms import GRPC_TYPES

_STREAMS = {
    "_handle_stream_unary_rpc": GRPC_TYPES.index("client_stream"),
    "_handle_unary_stream_rpc": GRPC_TYPES.index("server_stream"),
    "_handle_stream_stream_rpc": GRPC_TYPES.index("bidi_stream"),
}


class GrpcAioProbe(ServerProbe):
    """Every `grpc.aio` server of this process.

    Args:
        loops: told of every loop that serves. The others: as of every `ServerProbe`.

    Attributes:
        is_async: whether grpcio runs a handler on the loop.
        watched: by grpcio's state, the RPCs whose messages matter: streams and sampled ones.
    """

    name = "grpc.aio"

    def __init__(
        self, part: Part, start: Callable[[], Recorder], active: set[Call], loops: LoopLag
    ) -> None:
        super().__init__(part, start, active)
        self.core = CoreCalls()
        self.is_async: Callable[[Any], bool] = bool
        self.current_task: Callable[..., Any] = bool
        self.watched: dict[Any, AioRpc] = {}
        self._pools: WeakSet[Any] = WeakSet()
        self._loops = loops
        self._methods = Methods()
        self._by_name: dict[str, Method] = {}

    def install(self, server_module: ModuleType) -> None:
        """Patch `grpc.aio._server` and the Cython module that it stands on."""
        import asyncio

        self.current_task = asyncio.current_task
        self._cygrpc = core = server_module.cygrpc
        self._wrap_server(server_module.Server)
        self._wrap_status(core)
        self._wrap_messages(core)
        self._wrap_handlers(core)
        self._wrap_rpc(core)

    def forget(self) -> None:
        """After a fork: the parent's traffic, names and servers are not the child's."""
        super().forget()
        self._methods = Methods()
        self._by_name.clear()
        self.watched.clear()
        self._pools.clear()

    def workers(self) -> int | None:
        """Threads of the pools that the servers were given for plain functions, if any."""
        return threads_of(list(self._pools))

    def context_of(self, rpc_state: Any, loop: Any) -> Any:
        """A servicer context, which can say how the RPC stands."""
        return self._cygrpc._ServicerContext(rpc_state, None, None, loop)

    # Servers

    def _wrap_server(self, server_class: Any) -> None:
        init, start = server_class.__init__, server_class.start
        add_generic = server_class.add_generic_rpc_handlers

        def __init__(server: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            init(server, *args, **kwargs)
            self._guarded(self._adopt, *args, **kwargs)

        def add_generic_rpc_handlers(server: Any, generic_rpc_handlers: Iterable[Any]) -> Any:
            handlers = tuple(generic_rpc_handlers)
            self._guarded(self._name_generic, handlers)
            return add_generic(server, handlers)

        def start_(server: Any) -> Any:
            self._guarded(self._loops.watch, server._loop)
            return start(server)

        self._patches.replace(server_class, "__init__", __init__)
        self._patches.replace(server_class, "start", start_)
        self._patches.replace(server_class, "add_generic_rpc_handlers", add_generic_rpc_handlers)
        add_registered = getattr(server_class, "add_registered_method_handlers", None)
        if add_registered is None:  # grpcio before 1.64
            return

        def add_registered_method_handlers(
            server: Any, service_name: str, method_handlers: Mapping[str, Any]
        ) -> Any:
            self._guarded(self._name_registered, service_name, method_handlers)
            return add_registered(server, service_name, method_handlers)

        self._patches.replace(
            server_class, "add_registered_method_handlers", add_registered_method_handlers
        )

    def _guarded(self, step: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        if self.part.enabled:
            try:
                step(*args, **kwargs)
            except Exception as error:
                self.part.trip(error)

    def _adopt(self, thread_pool: Any = None, generic_handlers: Any = (), *_rest: Any) -> None:
        _ = self.recorder  # made by the first server, before its first call
        if thread_pool is not None:
            self._pools.add(thread_pool)
        self._name_generic(generic_handlers)
        if self.core is not None:
            self.core.adopt(asker(self._cygrpc))

    def _name_generic(self, generic_handlers: Iterable[Any]) -> None:
        for generic in generic_handlers or ():
            handlers = getattr(generic, "_method_handlers", None)
            if isinstance(handlers, dict):
                for name, handler in handlers.items():
                    self._name(name, handler)

    def _name_registered(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        for method, handler in method_handlers.items():
            self._name(f"/{service_name}/{method}", handler)

    def _name(self, name: str, handler: Any) -> None:
        call_type = 2 * bool(handler.response_streaming) + bool(handler.request_streaming)
        self.learn(name, call_type)

    def learn(self, name: str, call_type: int) -> Method:
        """The method of that name, which is one of a server's."""
        method = self._methods.register(self.recorder, name, call_type)
        if len(self._by_name) < 2 * METHODS_MAX:
            self._by_name[name] = method
        return method

    # RPCs

    def _wrap_rpc(self, core: ModuleType) -> None:
        original = core._handle_rpc
        code = getattr(original, "__code__", None)
        if code is None or code.co_varnames[0] != "method_name":
            self._wrap_unnamed_rpc(core)
            return
        part, by_name = self.part, self._by_name

        # Parameters spelt out: to collect and unpack them costs as much as the record.
        def _handle_rpc(
            name: str, resolver: Any, interceptors: Any, rpc_state: Any, loop: Any, exceeded: bool
        ) -> Any:
            coroutine = original(name, resolver, interceptors, rpc_state, loop, exceeded)
            if part.enabled:
                try:
                    method = by_name.get(name) or self._methods.known(name)
                    self.seen = arrival = self.arrivals()
                    if method.watched:
                        recorder = self.started or self.recorder
                        rpc = AioRpc(recorder, method.id, method.call_type, self.server_id)
                        rpc.probe = self
                        if (arrival * HASH) & HASH_MASK < recorder.threshold:
                            rpc.weight = recorder.weigh()
                        if not method.id:
                            rpc.name = name
                        return rpc.run(coroutine, rpc_state, loop)
                except Exception as error:
                    part.trip(error)
            return coroutine

        self._patches.replace(core, "_handle_rpc", _handle_rpc)

    def _wrap_unnamed_rpc(self, core: ModuleType) -> None:
        """In grpcio up to 1.76 an RPC's name is known when its handler is looked for."""
        original, find = core._handle_rpc, core._find_method_handler
        part = self.part

        def _handle_rpc(
            handlers: Any, interceptors: Any, rpc_state: Any, loop: Any, *more: Any
        ) -> Any:
            coroutine = original(handlers, interceptors, rpc_state, loop, *more)
            if part.enabled:
                try:
                    self.seen = self.arrivals()
                    recorder = self.started or self.recorder
                    rpc = AioRpc(recorder, 0, 0, self.server_id)
                    rpc.probe = self
                    rpc.name = ""
                    rpc.weight = recorder.draw()
                    return rpc.run(coroutine, rpc_state, loop)
                except Exception as error:
                    part.trip(error)
            return coroutine

        def _find_method_handler(name: str, *more: Any) -> Any:
            rpc = call_of_context.get()
            if part.enabled and type(rpc) is AioRpc and rpc.name == "":
                try:
                    rpc.named(name, self._by_name.get(name) or self._methods.known(name))
                except Exception as error:
                    part.trip(error)
            return find(name, *more)

        self._patches.replace(core, "_handle_rpc", _handle_rpc)
        self._patches.replace(core, "_find_method_handler", _find_method_handler)

    def _wrap_handlers(self, core: ModuleType) -> None:
        unary = core._finish_handler_with_unary_response
        stream = core._finish_handler_with_stream_responses
        part = self.part
        self.is_async = core._is_async_handler

        def _finish_handler_with_unary_response(
            rpc_state: Any, handler: Any, request: Any, context: Any, serializer: Any, loop: Any
        ) -> Any:
            rpc = call_of_context.get()
            if part.enabled and type(rpc) is AioRpc:
                try:
                    handler, serializer = rpc.respond(handler, serializer)
                except Exception as error:
                    part.trip(error)
            return unary(rpc_state, handler, request, context, serializer, loop)

        def _finish_handler_with_stream_responses(
            rpc_state: Any, handler: Any, request: Any, context: Any, loop: Any
        ) -> Any:
            rpc = call_of_context.get()
            if part.enabled and type(rpc) is AioRpc:
                try:
                    handler = rpc.stream_from(handler)
                except Exception as error:
                    part.trip(error)
            return stream(rpc_state, handler, request, context, loop)

        for function in (
            _finish_handler_with_unary_response,
            _finish_handler_with_stream_responses,
        ):
            self._patches.replace(core, function.__name__, function)
        for name, call_type in _STREAMS.items():
            self._wrap_stream(core, name, call_type)

    def _wrap_stream(self, core: ModuleType, name: str, call_type: int) -> None:
        original = getattr(core, name)
        part = self.part

        def handle_stream(method_handler: Any, rpc_state: Any, loop: Any) -> Any:
            rpc = call_of_context.get()
            if part.enabled and type(rpc) is AioRpc:
                try:
                    rpc.streams(call_type, rpc_state)
                except Exception as error:
                    part.trip(error)
            return original(method_handler, rpc_state, loop)

        self._patches.replace(core, name, handle_stream)

    def _wrap_status(self, core: ModuleType) -> None:
        original = core._send_error_status_from_server
        part = self.part

        def _send_error_status_from_server(rpc_state: Any, code: Any, *args: Any) -> Any:
            rpc = call_of_context.get()
            if part.enabled and type(rpc) is AioRpc:
                try:
                    rpc.aborted = int(code)
                except Exception as error:
                    part.trip(error)
            return original(rpc_state, code, *args)

        self._patches.replace(
            core, "_send_error_status_from_server", _send_error_status_from_server
        )

    def _wrap_messages(self, core: ModuleType) -> None:
        receive, send = core._receive_message, core._send_message
        watched, part = self.watched, self.part

        def _receive_message(rpc_state: Any, loop: Any) -> Any:
            receiving = receive(rpc_state, loop)
            if watched:
                rpc = watched.get(rpc_state)
                if rpc is not None:
                    return rpc.receive(receiving)
            return receiving

        def _send_message(rpc_state: Any, *args: Any) -> Any:
            if watched:
                rpc = watched.get(rpc_state)
                if rpc is not None and rpc.stream is not None and part.enabled:
                    try:
                        rpc.stream.sent()
                    except Exception as error:
                        part.trip(error)
            return send(rpc_state, *args)

        self._patches.replace(core, "_receive_message", _receive_message)
        self._patches.replace(core, "_send_message", _send_message)
