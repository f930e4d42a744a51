"""One RPC of a `grpc.aio` server: what its task awaits around grpcio's own coroutine.

A handler that is a coroutine function or an async generator function is called by grpcio as it
is; only plain functions, which grpcio runs in a thread pool, are handed over in a measured form.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from inspect import CO_COROUTINE
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pinchpoint.probe import trace_parent
from pinchpoint.probe.aio_status import failed_in, final_status
from pinchpoint.probe.call import (
    DESERIALIZE,
    PREPROCESS,
    QUEUE,
    RECEIVE,
    SEND,
    SERIALIZE,
    Call,
)
from pinchpoint.probe.grpc_status import OK
from pinchpoint.probe.stepped import Stepped, TaskClocks, stepped
from pinchpoint.probe.thread_state import call_of_context, current
from pinchpoint.schema.events import (
    FLAG_ASYNC,
    FLAG_BEHAVIOUR_CALLED,
    FLAG_DESERIALIZE_FAILED,
    FLAG_REJECTED,
    FLAG_RESPONDED,
    FLAG_SERIALIZE_FAILED,
)
from pinchpoint.schema.terms import REQUEST_STREAMS

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from pinchpoint.probe.grpc_aio import GrpcAioProbe
    from pinchpoint.probe.methods import Method

_ANSWERED = FLAG_ASYNC | FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED
_FAILED = {"serialize": FLAG_SERIALIZE_FAILED, "deserialize": FLAG_DESERIALIZE_FAILED}


class AioRpc(Call):
    """An RPC on an event loop.

    Attributes:
        name: of its method, until it is known to be one of the server's.
        watched: whether it is to be recorded.
    """

    name: str | None = None
    watched = True
    probe: GrpcAioProbe
    _serializer: Callable[[Any], Any] | None
    _task_clocks: TaskClocks | None = None
    _own_task: Any = None

    async def run(
        self, coroutine: Coroutine[Any, Any, Any], rpc_state: Any, loop: AbstractEventLoop
    ) -> Any:
        """What the RPC's task awaits in place of grpcio's coroutine."""
        awaited: Any = coroutine
        try:
            call_of_context.set(self)
            self.probe.active.add(self)
            self.start_ns = self.arrival_ns
            self.stage = RECEIVE
            self.task = coroutine
            if self.weight:
                awaited = self._stepped(coroutine, rpc_state, loop)
        except Exception as error:
            self.probe.part.trip(error)
        try:
            result = await awaited
        except BaseException as error:
            self._end(rpc_state, loop, error)
            raise
        if self.flags != _ANSWERED or self.weight or self.stream is not None:
            self._end(rpc_state, loop, None)
            return result
        try:
            self.probe.active.discard(self)
            self.over = True
            if self.probe.part.enabled:
                self.finish(OK)
        except Exception as error:
            self.probe.part.trip(error)
        return result

    def _stepped(
        self, coroutine: Coroutine[Any, Any, Any], rpc_state: Any, loop: AbstractEventLoop
    ) -> Stepped:
        clocks = TaskClocks(current(), RECEIVE, self.recorder.gc_watch.pause_ns)
        # From the arrival to this first step the task was one of many that were ready.
        clocks.times[RECEIVE * 3] = monotonic_ns() - self.arrival_ns
        self.clocks = self._task_clocks = clocks
        self.probe.watched[rpc_state] = self
        self._own_task = self.probe.current_task(loop)
        return stepped(coroutine, clocks, self.probe.part)

    def enter(self, stage: int) -> None:
        """A boundary between two stages."""
        self.stage = stage
        clocks = self.clocks
        if clocks is not None:
            clocks.enter(stage)
            if self._in_another_task():
                # Nobody tells when a task of the handler's own gives the thread back.
                clocks.suspend()

    def _in_another_task(self) -> bool:
        try:
            return self.probe.current_task() is not self._own_task
        except RuntimeError:  # no loop runs in this thread
            return False

    # What grpcio does for it

    def streams(self, call_type: int, rpc_state: Any) -> None:
        """It is a stream of that type."""
        self.call_type = call_type
        self.learn()
        self.meter()
        self.probe.watched[rpc_state] = self

    def named(self, name: str, method: Method) -> None:
        """Its name is known at last."""
        self.method_id, self.call_type = method.id, method.call_type
        self.watched = method.watched
        self.name = None if method.id else name
        if not self.watched:
            self.probe.active.discard(self)

    def learn(self) -> None:
        """Its method is one of the server's, though it was not registered by its name."""
        if self.name is not None and self.watched:
            self.method_id = self.probe.learn(self.name, self.call_type).id
            self.name = None

    async def receive(self, receiving: Coroutine[Any, Any, bytes | None]) -> bytes | None:
        """A message, or None at the end of them."""
        data = await receiving
        part = self.probe.part
        if part.enabled:
            try:
                self._received(data)
            except Exception as error:
                part.trip(error)
        return data

    def _received(self, data: bytes | None) -> None:
        if data is None or self.over:
            return
        if self.stream is not None and self.call_type in REQUEST_STREAMS:
            self.stream.received()
        elif self.clocks is not None:
            self.request_bytes = len(data)
        if not self.behaviour_ns:
            self.enter(DESERIALIZE)

    def respond(self, handler: Any, serializer: Any) -> tuple[Any, Callable[[Any], Any]]:
        """What grpcio is to call in place of a handler of one response, and of its serialiser."""
        if not self.watched:
            return handler, serializer
        self._serializer = serializer
        if self.weight or self.name is not None or self.recorder.models.pending:
            self.learn()
        else:
            try:
                # Beyond doubt; grpcio's own question costs ten times as much.
                if handler.__code__.co_flags & CO_COROUTINE:
                    self.stage = PREPROCESS
                    self.behaviour_ns = monotonic_ns()
                    return handler, self._serialize
            except AttributeError:
                pass
        if self.probe.is_async(handler):
            self.behaviour_begins()
        else:
            handler = self._in_thread(handler)
        return handler, self._serialize_measured if self.weight else self._serialize

    def stream_from(self, handler: Any) -> Any:
        """What grpcio is to call in place of a handler of many responses."""
        if self.probe.is_async(handler):
            self.behaviour_begins()
            return handler
        return self._iterated_in_thread(handler)

    # grpcio asks for the response's bytes only when the handler has returned, with OK.

    def _serialize(self, response: Any) -> Any:
        if not self.end_ns:
            self.end_ns = monotonic_ns()
            self.stage = SERIALIZE
        self.flags = _ANSWERED
        serializer = self._serializer
        return serializer(response) if serializer else response

    def _serialize_measured(self, response: Any) -> Any:
        part = self.probe.part
        try:
            if not self.end_ns:
                self.behaviour_ended()
        except Exception as error:
            part.trip(error)
        data = self._serialize(response)
        try:
            if isinstance(data, bytes):
                self.response_bytes = len(data)
            self.enter(SEND)
        except Exception as error:
            part.trip(error)
        return data

    # Handlers that grpcio runs in a thread pool

    def _in_thread(self, handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        submitted_ns = self._lend()

        def handle(request: Any, context: Any) -> Any:
            token = self._worker_begins(submitted_ns)
            try:
                return handler(request, context)
            finally:
                self._worker_ended(token)

        return handle

    def _iterated_in_thread(
        self, handler: Callable[[Any, Any], Iterable[Any]]
    ) -> Callable[[Any, Any], Iterable[Any]]:
        submitted_ns = self._lend()

        def iterate(responses: Iterable[Any]) -> Iterator[Any]:
            token = self._worker_begins(submitted_ns)
            try:
                yield from responses
            finally:
                self._worker_ended(token)

        return lambda request, context: iterate(handler(request, context))

    def _lend(self) -> int:
        self.stage = QUEUE
        if self._task_clocks is not None:
            self._task_clocks.lend(QUEUE)
        return monotonic_ns()

    def _worker_begins(self, submitted_ns: int) -> Any:
        part = self.probe.part
        if self.over or not part.enabled:
            return None
        try:
            self.start_ns += monotonic_ns() - submitted_ns
            self.thread = thread = current()
            thread.call = self
            self.behaviour_begins()
            return call_of_context.set(self)
        except Exception as error:
            part.trip(error)
            return None

    def _worker_ended(self, token: Any) -> None:
        try:
            if token is not None:
                call_of_context.reset(token)
            thread, self.thread = self.thread, None
            if thread is not None:
                thread.call = None
            if not self.over:
                self.behaviour_ended()
                if self._task_clocks is not None:
                    self._task_clocks.give_back()
        except Exception as error:
            self.probe.part.trip(error)

    # The end

    def _end(self, rpc_state: Any, loop: Any, error: BaseException | None) -> None:
        probe = self.probe
        part = probe.part
        try:
            probe.active.discard(self)
            self.over = True
            if self.weight or self.stream is not None:
                probe.watched.pop(rpc_state, None)
            if not (part.enabled and self.watched):
                return
            answered = error is None and self.flags == _ANSWERED
            if answered and not self.weight:
                self.finish(OK)
                return
            context = probe.context_of(rpc_state, loop)
            if self.weight:
                self.trace_parent = trace_parent.find(context.invocation_metadata())
            if answered:
                self.finish(OK)
            else:
                self._record(context, error)
        except Exception as own:
            part.trip(own)

    def _record(self, context: Any, error: BaseException | None) -> None:
        """Whatever is no single response with OK: all streams, and all failures."""
        status = final_status(context, error, self.aborted, self.arrival_ns)
        flags = FLAG_BEHAVIOUR_CALLED if self.behaviour_ns else 0
        if error is not None:
            flags |= _FAILED.get(failed_in(error), 0)
            if self.behaviour_ns and not self.end_ns:
                self.behaviour_ended()
        elif self.aborted is not None and not self.behaviour_ns:
            flags |= FLAG_REJECTED
            self.start_ns = 0
        self.flags = flags | FLAG_ASYNC
        if flags & FLAG_REJECTED:
            self.recorder.request(self, status, self.arrival_ns)
        else:
            self.finish(status)
