"""The sync grpcio server, seen at the one place where all of an RPC's waits meet.

`grpc._server` hands every accepted RPC to its pool as
`submit(state.context.run, in_pool, rpc_event, state, behaviour, thunk, deserialiser,
serialiser)` (grpcio 1.62 and later; 1.58 and earlier leave `state.context.run` out).
The pool that the server keeps is replaced by a thin proxy whose `submit` stamps the
arrival and puts `Rpc.run` in between: no interceptor on the serving thread, no change
to the user's pool or servicer.

What happens rarely is seen where it happens, so that ordinary RPCs pay nothing for it: RPCs
that grpcio gives up on (`_abort`), refuses (`_reject_rpc`), and the messages of streams
(`_send_response`, `_RequestIterator._next`). All are functions of grpcio's module, replaced
there; each finds its RPC on the `_RPCState` it is called with.

Whatever does not have the expected shape passes through untouched and uncounted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any
from weakref import ref

from pinchpoint.probe.call import Call
from pinchpoint.probe.core_calls import CoreCalls, asker
from pinchpoint.probe.grpc_plain import STATE_KEY, InFlight, adopt, in_flight
from pinchpoint.probe.grpc_rpc import Rpc
from pinchpoint.probe.guard import Part
from pinchpoint.probe.methods import METHODS_MAX, Method, Methods, method_name
from pinchpoint.probe.pool_proxy import STREAM_FUNCTION, PoolProxy
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.server_probe import ServerProbe, threads_of
from pinchpoint.probe.thread_state import plain_states
from pinchpoint.schema.events import (
    FLAG_DESERIALIZE_FAILED,
    FLAG_REJECTED,
    FLAG_SERIALIZE_FAILED,
)

_UNARY_THUNK = "unary_request"
_SERIALIZE_FAILED = b"Failed to serialize response!"
_DESERIALIZE_FAILED = b"Exception deserializing request!"


class GrpcServerProbe(ServerProbe):
    """Every sync grpcio server of this process."""

    name = "grpc"

    def __init__(self, part: Part, start: Callable[[], Recorder], active: set[Call]) -> None:
        super().__init__(part, start, active)
        self._pools: tuple[ref[PoolProxy], ...] = ()
        self.methods = Methods()
        self.core = CoreCalls()
        self.by_tag: dict[str | bytes, Method] = {}
        self._own_pools: dict[int, PoolProxy] = {}
        self._chooses_pools = False

    def install(self, server_module: ModuleType) -> None:
        """Patch `grpc._server`."""
        self._module = server_module
        self.unary_request = server_module._unary_request
        self._wrap_init(server_module._Server)
        self._wrap_registration(server_module._Server)
        self._wrap_reject(server_module)
        self._wrap_abort(server_module)
        self._wrap_messages(server_module)

    def uninstall(self) -> None:
        """Put back everything that was replaced."""
        super().uninstall()
        self._chooses_pools = False
        for pool in self.pools():
            pool.detach()

    def forget(self) -> None:
        """After a fork: the parent's traffic, names and servers are not the child's."""
        super().forget()
        self.methods = Methods()
        self.by_tag.clear()
        self._own_pools.clear()
        for pool in self.pools():
            pool.detach()
        self._pools = ()

    # Patches

    def _wrap_init(self, server_class: Any) -> None:
        original = server_class.__init__

        def init(server: Any, *args: Any, **kwargs: Any) -> None:
            original(server, *args, **kwargs)
            if self.part.enabled:
                try:
                    self._adopt(server._state)
                except Exception as error:
                    self.part.trip(error)

        self._patches.replace(server_class, "__init__", init)

    def _adopt(self, state: Any) -> None:
        _ = self.recorder  # made by the first server, before its first call
        for handler in state.generic_handlers:
            self._watch_generic(handler)
        state.thread_pool = PoolProxy(self, state.thread_pool, state)
        # Replaced as a whole: the sampler goes through it at any time.
        self._pools = (*(pool for pool in self._pools if pool()), ref(state.thread_pool))
        if self.core is not None:
            self.core.adopt(asker(self._module.cygrpc))

    def _wrap_registration(self, server_class: Any) -> None:
        add_generic = server_class.add_generic_rpc_handlers

        def add_generic_rpc_handlers(server: Any, generic_rpc_handlers: Iterable[Any]) -> Any:
            if self.part.enabled:
                try:
                    generic_rpc_handlers = tuple(generic_rpc_handlers)
                    for handler in generic_rpc_handlers:
                        self._watch_generic(handler)
                except Exception as error:
                    self.part.trip(error)
            return add_generic(server, generic_rpc_handlers)

        self._patches.replace(server_class, "add_generic_rpc_handlers", add_generic_rpc_handlers)
        add_registered = getattr(server_class, "add_registered_method_handlers", None)
        if add_registered is None:  # grpcio before 1.64
            return

        def add_registered_method_handlers(
            server: Any, service_name: str, method_handlers: Mapping[str, Any]
        ) -> Any:
            if self.part.enabled:
                try:
                    for method, handler in method_handlers.items():
                        self._watch(f"/{service_name}/{method}", handler)
                except Exception as error:
                    self.part.trip(error)
            return add_registered(server, service_name, method_handlers)

        self._patches.replace(
            server_class, "add_registered_method_handlers", add_registered_method_handlers
        )

    def _watch_generic(self, generic_handler: Any) -> None:
        handlers = getattr(generic_handler, "_method_handlers", None)
        if isinstance(handlers, dict):
            for method, handler in list(handlers.items()):
                self._watch(method, handler)
        else:
            self._wrap_pool_choice(self._module)  # its handlers are not known yet

    def _watch(self, method: str, handler: Any) -> None:
        """Name the method to the agent."""
        kind = 2 * bool(handler.response_streaming) + bool(handler.request_streaming)
        self.methods.register(self.recorder, method, kind)
        behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary)
        for behaviour in (*behaviours, handler.stream_stream):
            if hasattr(behaviour, "experimental_thread_pool"):
                self._wrap_pool_choice(self._module)

    def _wrap_reject(self, module: ModuleType) -> None:
        original = module._reject_rpc

        def _reject_rpc(rpc_event: Any, rpc_state: Any, status: Any, details: Any) -> Any:
            if self.part.enabled:
                try:
                    self._rejected(rpc_event, int(status))
                except Exception as error:
                    self.part.trip(error)
            return original(rpc_event, rpc_state, status, details)

        self._patches.replace(module, "_reject_rpc", _reject_rpc)

    def _rejected(self, rpc_event: Any, status: int) -> None:
        if self.started is None:
            return  # by a server that was made before us
        self.seen = self.arrivals()
        method = self.methods.known(method_name(rpc_event.call_details.method or rpc_event.tag))
        if not method.watched:
            return
        call = Call(self.recorder, method.id, method.call_type, self.server_id)
        call.flags = FLAG_REJECTED
        self.recorder.request(call, status, call.arrival_ns)

    def _wrap_abort(self, module: ModuleType) -> None:
        original = module._abort

        def _abort(state: Any, call: Any, code: Any, details: Any) -> Any:
            result = original(state, call, code, details)
            try:
                if state.__dict__.get(STATE_KEY) is not None and self.part.enabled:
                    rpc = adopt(self, state)
                    if rpc.aborted is None:
                        rpc.aborted = int(code)
                    if details == _SERIALIZE_FAILED:
                        rpc.flags |= FLAG_SERIALIZE_FAILED
                    elif details == _DESERIALIZE_FAILED:
                        rpc.flags |= FLAG_DESERIALIZE_FAILED
            except Exception as error:
                self.part.trip(error)
            return result

        self._patches.replace(module, "_abort", _abort)

    def _wrap_messages(self, module: ModuleType) -> None:
        send = module._send_response

        def _send_response(rpc_event: Any, state: Any, serialized_response: Any) -> Any:
            # What comes after the client has gone is dropped. The answer does not tell: it is
            # the same for a message after which the client went.
            stream = None
            try:
                rpc = state.__dict__.get(STATE_KEY)
                if isinstance(rpc, Rpc) and self.part.enabled:
                    heard = state.client != "cancelled" and not state.statused
                    stream = rpc.stream if heard else None
            except Exception as error:
                self.part.trip(error)
            active = send(rpc_event, state, serialized_response)
            if stream is not None:
                try:
                    stream.sent()
                except Exception as error:
                    self.part.trip(error)
            return active

        self._patches.replace(module, "_send_response", _send_response)
        iterator = module._RequestIterator
        original = iterator._next

        def _next(requests: Any) -> Any:
            message = original(requests)
            try:
                rpc = requests._state.__dict__.get(STATE_KEY)
                if isinstance(rpc, Rpc) and rpc.stream and self.part.enabled:
                    rpc.stream.received()
            except Exception as error:
                self.part.trip(error)
            return message

        self._patches.replace(iterator, "_next", _next)

    def _wrap_pool_choice(self, module: ModuleType) -> None:
        """Handlers may name a pool of their own, which the server does not keep."""
        original = getattr(module, "_select_thread_pool_for_behavior", None)
        if original is None or self._chooses_pools:
            return
        self._chooses_pools = True

        def _select_thread_pool_for_behavior(behavior: Any, default_thread_pool: Any) -> Any:
            pool = original(behavior, default_thread_pool)
            if pool is default_thread_pool or not self.part.enabled:
                return pool
            try:
                proxy = self._own_pools.get(id(pool))
                if proxy is None or proxy.inner is not pool:
                    proxy = self._own_pools[id(pool)] = PoolProxy(self, pool, None)
                return proxy
            except Exception as error:
                self.part.trip(error)
                return pool

        self._patches.replace(
            module, "_select_thread_pool_for_behavior", _select_thread_pool_for_behavior
        )

    # The life of an RPC

    def find(self, rpc_event: Any, in_pool: Any, thunk: Any) -> Method:
        """The method of an RPC whose event has a tag that says nothing, or nothing yet.

        Args:
            rpc_event: grpcio's.
            in_pool: grpcio's own function that the pool is to run.
            thunk: what gets the request.
        """
        tag = rpc_event.call_details.method or rpc_event.tag
        method = self.by_tag.get(tag)
        if method is not None:
            return method
        streams = bool(in_pool.__name__ == STREAM_FUNCTION)
        receives_stream = getattr(thunk, "__name__", "") != _UNARY_THUNK
        kind = 2 * streams + receives_stream
        method = self.methods.register(self.recorder, method_name(tag), kind)
        if len(self.by_tag) < 2 * METHODS_MAX:
            self.by_tag[tag] = method
        return method

    def pools(self) -> list[PoolProxy]:
        """The pools of the servers that still live."""
        return [pool for reference in self._pools if (pool := reference()) is not None]

    def in_flight(self) -> list[InFlight]:
        """The plain RPCs that are not finished; the others are in `active`."""
        # grpcio forgets an RPC that its client has left; its handler may still run.
        states = [*plain_states(), *(s for pool in self.pools() for s in pool.rpc_states())]
        return list(in_flight({id(s): s for s in states}.values(), self.server_id))

    def workers(self) -> int | None:
        """Threads of the pools of all serving servers, if every pool says."""
        return threads_of(pool.inner for pool in self.pools() if pool.serving)
