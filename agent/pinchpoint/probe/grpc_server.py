"""The sync grpcio server, seen at the one place where all of an RPC's waits meet.

`grpc._server` hands every accepted RPC to its pool as
`submit(state.context.run, in_pool, rpc_event, state, behaviour, thunk, deserialiser,
serialiser)` (grpcio 1.62 and later; 1.58 and earlier leave `state.context.run` out).
The pool that the server keeps is replaced by a thin proxy whose `submit` stamps the
arrival and wraps four of those arguments: no interceptor on the serving thread, no change
to the user's pool or servicer. Message sizes and deserialising time come from the
handlers' own (de)serialisers, wrapped when they are registered.

Whatever does not have the expected shape passes through untouched and uncounted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from time import monotonic_ns
from types import ModuleType
from typing import Any
from weakref import WeakSet, ref

from pinchpoint.probe.call import Call
from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.schema.events import FLAG_REJECTED
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import GRPC_CODES

_CODE = {name: number for number, name in enumerate(GRPC_CODES)}
_OK = _CODE["OK"]
_CANCELLED = _CODE["CANCELLED"]
_DEADLINE_EXCEEDED = _CODE["DEADLINE_EXCEEDED"]
_INTERNAL = _CODE["INTERNAL"]
_UNKNOWN = _CODE["UNKNOWN"]

_UNARY_FUNCTION = "_unary_response_in_pool"
_STREAM_FUNCTION = "_stream_response_in_pool"
_RPC_FUNCTIONS = frozenset((_UNARY_FUNCTION, _STREAM_FUNCTION))
_UNARY_THUNK = "unary_request"

SIZES_MAX = 4096
"""Received sizes waiting for their handler. RPCs that die in between leave theirs; the
table is dropped when it is full, and those sizes are unknown."""

METHODS_MAX = 512
"""Methods told apart. Beyond it a method is `_OTHER`: a server that answers any name at all
would otherwise let its clients fill the name table and this process' memory."""

_NOT_WATCHED = -1

HEALTH_SERVICES = ("grpc.health.", "grpc.reflection.", "grpc.channelz.")


class GrpcServerProbe:
    """Every sync grpcio server of this process.

    Args:
        part: the guard's part for this hook.
        start: makes the recorder, when the first server is made.
        before_handler: called on the worker right before a handler runs (torch models
            built since the last call are picked up there).
    """

    def __init__(
        self, part: Part, start: Callable[[], Recorder], before_handler: Callable[[], None]
    ) -> None:
        self.part = part
        self._start = start
        self._recorder: Recorder | None = None
        self.before_handler = before_handler
        self.active: dict[int, Call] = {}
        self.seen = 0
        self.pools: WeakSet[_PoolProxy] = WeakSet()
        self._methods: dict[str, int] = {}
        self._served: dict[bytes | str, tuple[int, int]] = {}
        self._received: dict[int, tuple[int, int]] = {}
        self._undo: list[Callable[[], None]] = []

    def install(self, server_module: ModuleType) -> None:
        """Patch `grpc._server`."""
        self._module = server_module
        server_class = server_module._Server
        self._wrap_init(server_class)
        self._wrap_registration(server_class)
        self._wrap_reject(server_module)

    def uninstall(self) -> None:
        """Put back everything that was replaced."""
        self.part.enabled = False
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        for pool in list(self.pools):
            pool.detach()

    @property
    def recorder(self) -> Recorder:
        """Where records go; made at first use."""
        if self._recorder is None:
            self._recorder = self._start()
        return self._recorder

    def forget(self) -> None:
        """After a fork: the parent's traffic, names and servers are not the child's."""
        self._recorder = None
        self.active.clear()
        self._received.clear()
        self._methods.clear()
        self._served.clear()
        self.seen = 0
        for pool in list(self.pools):
            pool.detach()
        self.pools.clear()

    # Patches

    def _replace(self, owner: Any, name: str, replacement: Any) -> None:
        original = getattr(owner, name)
        setattr(owner, name, replacement)
        self._undo.append(lambda: setattr(owner, name, original))

    def _server_id(self) -> int:
        return self.recorder.intern(NameKind.SERVER, "grpc")

    def _wrap_init(self, server_class: Any) -> None:
        original = server_class.__init__

        def init(server: Any, *args: Any, **kwargs: Any) -> None:
            original(server, *args, **kwargs)
            if self.part.enabled:
                try:
                    self._adopt(server)
                except Exception as error:
                    self.part.trip(error)

        self._replace(server_class, "__init__", init)

    def _adopt(self, server: Any) -> None:
        state = server._state
        for handler in state.generic_handlers:
            self._watch_generic(handler)
        state.thread_pool = _PoolProxy(self, state, self._server_id())
        self.pools.add(state.thread_pool)

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

        self._replace(server_class, "add_generic_rpc_handlers", add_generic_rpc_handlers)
        add_registered = getattr(server_class, "add_registered_method_handlers", None)
        if add_registered is None:  # grpcio before 1.64
            return

        def add_registered_method_handlers(
            server: Any, service_name: str, method_handlers: Mapping[str, Any]
        ) -> Any:
            if self.part.enabled:
                try:
                    method_handlers = {
                        method: self._watch(f"/{service_name}/{method}", handler)
                        for method, handler in method_handlers.items()
                    }
                except Exception as error:
                    self.part.trip(error)
            return add_registered(server, service_name, method_handlers)

        self._replace(
            server_class, "add_registered_method_handlers", add_registered_method_handlers
        )

    def _watch_generic(self, generic_handler: Any) -> None:
        handlers = getattr(generic_handler, "_method_handlers", None)
        if isinstance(handlers, dict):
            for method, handler in list(handlers.items()):
                handlers[method] = self._watch(method, handler)

    def _watch(self, method: str, handler: Any) -> Any:
        """Name the method to the agent, and its handler with a measuring deserialiser."""
        if method.lstrip("/").startswith(HEALTH_SERVICES):
            return handler
        kind = 2 * bool(handler.response_streaming) + bool(handler.request_streaming)
        self._method_id(method, kind)
        deserialize = handler.request_deserializer
        measured = getattr(deserialize, "__pinchpoint__", False)
        replace = getattr(handler, "_replace", None)  # the handlers of grpcio are named tuples
        if replace is None or deserialize is None or measured or handler.request_streaming:
            return handler
        return replace(request_deserializer=self._measure(deserialize))

    def _method_id(self, method: str, kind: int) -> int:
        method_id = self._methods.get(method)
        if method_id is None:
            if len(self._methods) >= METHODS_MAX:
                return 0
            method_id = self.recorder.intern(NameKind.METHOD, method, kind)
            self._methods[method] = method_id
        return method_id

    def _measure(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        received, part = self._received, self.part

        def measured(data: bytes) -> Any:
            if not part.enabled:
                return deserialize(data)
            begin_ns = monotonic_ns()
            message = deserialize(data)
            # The worker finds its request by identity: the message lives until then.
            if len(received) >= SIZES_MAX:
                received.clear()
            received[id(message)] = (len(data), monotonic_ns() - begin_ns)
            return message

        measured.__pinchpoint__ = True  # type: ignore[attr-defined]
        return measured

    def _wrap_reject(self, server_module: ModuleType) -> None:
        original = server_module._reject_rpc

        def _reject_rpc(rpc_event: Any, rpc_state: Any, status: Any, details: Any) -> Any:
            if self.part.enabled:
                try:
                    self._rejected(rpc_event, int(status))
                except Exception as error:
                    self.part.trip(error)
            return original(rpc_event, rpc_state, status, details)

        self._replace(server_module, "_reject_rpc", _reject_rpc)

    def _rejected(self, rpc_event: Any, status: int) -> None:
        self.seen += 1
        method_id = self._methods.get(_method_name(rpc_event), 0)
        call = Call(self.recorder, method_id, 0, self._server_id())
        self.recorder.request(call, status, FLAG_REJECTED, 0)

    # The life of an RPC

    def wrap(self, args: tuple[Any, ...], server_id: int) -> _Rpc | None:
        """The measured stand-in for an RPC's pool task, or None for anything else."""
        at = 1 if _is_rpc_task(args, 1) else 0
        if at == 0 and not _is_rpc_task(args, 0):
            return None
        rpc_event = args[at + 1]
        raw = rpc_event.call_details.method or rpc_event.tag
        served = self._served.get(raw)
        if served is None:
            served = self._learn(raw, args, at)
        method_id, kind = served
        if method_id == _NOT_WATCHED:
            return None
        call = Call(self._recorder or self.recorder, method_id, kind, server_id)
        self.seen += 1
        self.active[id(call)] = call
        return _Rpc(self, call, at)

    def _learn(self, raw: bytes | str, args: tuple[Any, ...], at: int) -> tuple[int, int]:
        """Id and kind of a method that is called for the first time."""
        method = _method_name(args[at + 1])
        streams = args[at].__name__ == _STREAM_FUNCTION
        receives_stream = getattr(args[at + 4], "__name__", "") != _UNARY_THUNK
        kind = 2 * streams + receives_stream
        if method.lstrip("/").startswith(HEALTH_SERVICES):
            served = (_NOT_WATCHED, kind)
        else:
            served = (self._method_id(method, kind), kind)
        if len(self._served) < 2 * METHODS_MAX:
            self._served[raw] = served
        return served

    def take_received(self, message: Any) -> tuple[int, int] | None:
        """Size and deserialising time of a request message, once."""
        if isinstance(message, bytes):
            return len(message), 0
        return self._received.pop(id(message), None)

    def workers(self) -> int | None:
        """Threads of the pools of all serving servers, if every pool says."""
        sizes = [
            getattr(pool.inner, "_max_workers", None) for pool in list(self.pools) if pool.serving
        ]
        known = [size for size in sizes if isinstance(size, int)]
        return sum(known) if known and len(known) == len(sizes) else None


def _is_rpc_task(args: tuple[Any, ...], at: int) -> bool:
    """Whether `args[at:]` is what grpcio submits for an RPC."""
    return len(args) == at + 7 and getattr(args[at], "__name__", "") in _RPC_FUNCTIONS


def _method_name(rpc_event: Any) -> str:
    """`/package.Service/Method`; a registered method's name is the event's tag."""
    method = rpc_event.call_details.method or rpc_event.tag
    return method.decode("utf-8", "replace") if isinstance(method, bytes) else str(method)


class _PoolProxy:
    """Stands where the server keeps its pool; everything but `submit` is the pool's."""

    def __init__(self, probe: GrpcServerProbe, state: Any, server_id: int) -> None:
        self.inner = state.thread_pool
        self.server_id = server_id
        self._probe = probe
        # Weak: the server's state holds us, and a cycle would keep its pool until a collection.
        self._state = ref(state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def serving(self) -> bool:
        """Whether the server accepts RPCs (its stage is an enum of grpcio's own)."""
        state = self._state()
        return state is not None and bool(state.stage.value == "started")

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Hand a task to the pool, an RPC's in its measured form."""
        probe = self._probe
        rpc = None
        if probe.part.enabled:
            try:
                rpc = probe.wrap(args, self.server_id)
            except Exception as error:
                probe.part.trip(error)
        if rpc is None:
            return self.inner.submit(*args, **kwargs)
        at = rpc.at
        try:
            return self.inner.submit(*args[:at], rpc.run, *args[at:], **kwargs)
        except BaseException:
            probe.active.pop(id(rpc.call), None)
            raise

    def detach(self) -> None:
        """Give the server its own pool back."""
        state = self._state()
        if state is not None and state.thread_pool is self:
            state.thread_pool = self.inner


class _Rpc:
    """One RPC's task in the pool: runs grpcio's own function with measured arguments."""

    __slots__ = (
        "_behaviour",
        "_ended",
        "_ok",
        "_part",
        "_probe",
        "_raised",
        "_serializer",
        "_serializer_failed",
        "_state",
        "_statused_early",
        "_streams",
        "_thunk",
        "at",
        "call",
    )

    def __init__(self, probe: GrpcServerProbe, call: Call, at: int) -> None:
        self._probe = probe
        self._part = probe.part
        self.call = call
        self.at = at
        self._raised = self._serializer_failed = self._streams = False
        self._statused_early = self._ended = False
        self._ok = True

    def run(
        self,
        in_pool: Callable[..., None],
        rpc_event: Any,
        state: Any,
        behaviour: Callable[..., Any],
        thunk: Callable[[], Any],
        deserializer: Any,
        serializer: Any,
    ) -> None:
        """What the worker executes in place of `in_pool(rpc_event, state, …)`."""
        try:
            self.call.start()
        except Exception as error:
            self._trip(error)
        if not self._ok:
            in_pool(rpc_event, state, behaviour, thunk, deserializer, serializer)
            return
        self._behaviour, self._thunk, self._serializer = behaviour, thunk, serializer
        self._state = state
        if in_pool.__name__ == _UNARY_FUNCTION:
            behaviour = self.behave
        else:
            self._streams = True
            if getattr(behaviour, "experimental_non_blocking", False):
                self._ended = True  # it has callbacks instead of an iterator
            else:
                behaviour = self.behave_stream
        try:
            in_pool(
                rpc_event,
                state,
                behaviour,
                self.receive,
                deserializer,
                self.serialize if serializer is not None else None,
            )
        finally:
            self._end(rpc_event, state)

    def _trip(self, error: Exception) -> None:
        self._ok = False
        self._part.trip(error)
        self._probe.active.pop(id(self.call), None)
        self.call.leave_thread()

    def receive(self) -> Any:
        """The request message (or the iterator of a streaming request)."""
        message = self._thunk()
        if self._ok and message is not None:
            try:
                if not self.call.grpc_type & 1:  # one request message
                    size = self._probe.take_received(message)
                    if size is not None:
                        self.call.request_bytes, self.call.deserialize_ns = size
                if self._streams:
                    # The handler runs inside grpcio's own iteration.
                    self._probe.before_handler()
                    self.call.behaviour_begins()
            except Exception as error:
                self._trip(error)
        return message

    def behave(self, request: Any, context: Any) -> Any:
        """The servicer's method, with its time taken."""
        if not self._ok:
            return self._behaviour(request, context)
        try:
            self._probe.before_handler()
            self.call.behaviour_begins()
        except Exception as error:
            self._trip(error)
        try:
            response = self._behaviour(request, context)
        except BaseException:
            self._raised = True
            raise
        finally:
            if self._ok:
                try:
                    self._statused_early = self._state.statused
                    self.call.behaviour_ended()
                except Exception as error:
                    self._trip(error)
        if response is None and self._serializer is None:
            self._serializer_failed = True
        return response

    def behave_stream(self, request: Any, context: Any) -> Any:
        """The servicer's method, whose responses are iterated under our eyes."""
        try:
            return _Responses(self, self._behaviour(request, context))
        except BaseException:
            self.responses_ended(raised=True)
            raise

    def responses_ended(self, raised: bool) -> None:
        """The servicer's iterator has come to its end, or raised something else."""
        self._raised = raised
        self._ended = True
        if self._ok:
            try:
                self._statused_early = self._state.statused
            except Exception as error:
                self._trip(error)

    def serialize(self, response: Any) -> Any:
        """The response's bytes."""
        try:
            data = self._serializer(response)
        except BaseException:
            self._serializer_failed = True
            raise
        if data is None:
            self._serializer_failed = True
        elif self._ok and not self._streams:
            try:
                if isinstance(data, bytes):
                    self.call.response_bytes = len(data)
                self.call.serialized()
            except Exception as error:
                self._trip(error)
        return data

    def _end(self, rpc_event: Any, state: Any) -> None:
        probe, call = self._probe, self.call
        probe.active.pop(id(call), None)
        if not self._ok:
            return
        try:
            if self._streams and call.behaviour_called:
                call.behaviour_ended()
            call.finish(self._status(rpc_event, state))
            call.leave_thread()
        except Exception as error:
            self._trip(error)

    def _status(self, rpc_event: Any, state: Any) -> int:
        """The status number that the client was sent, or that ended the RPC."""
        if state.client == "cancelled" and not state.statused:
            deadline = rpc_event.call_details.deadline
            return _DEADLINE_EXCEEDED if time.time() >= deadline else _CANCELLED
        code = state.code
        if code is None:
            # Sent before the handler was done: a message of the client could not be read.
            if self._statused_early or (self._streams and state.statused and not self._ended):
                return _INTERNAL
            if self._raised:
                return _UNKNOWN
            if self._serializer_failed:
                return _INTERNAL
            if not self.call.behaviour_called:
                return _INTERNAL if state.statused else _CANCELLED
            return _OK
        name = getattr(code, "name", None)
        return _CODE.get(name, _UNKNOWN) if isinstance(name, str) else _UNKNOWN


class _Responses:
    """A servicer's response iterator; tells its RPC how it ends."""

    __slots__ = ("_responses", "_rpc")

    def __init__(self, rpc: _Rpc, responses: Any) -> None:
        self._rpc = rpc
        self._responses = responses

    def __iter__(self) -> _Responses:
        return self

    def __next__(self) -> Any:
        try:
            response = next(self._responses)
        except StopIteration:
            self._rpc.responses_ended(raised=False)
            raise
        except BaseException:
            self._rpc.responses_ended(raised=True)
            raise
        if response is None:  # grpcio's own sign for the end
            self._rpc.responses_ended(raised=False)
        return response
