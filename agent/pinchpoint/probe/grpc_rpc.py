"""One RPC of a sync server: the task that the pool runs in place of grpcio's own."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pinchpoint.probe import trace_parent
from pinchpoint.probe.call import SEND, Call
from pinchpoint.probe.grpc_status import DEADLINE_EXCEEDED, OK, dead_on_arrival, final_status
from pinchpoint.probe.methods import Method
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.thread_state import threads
from pinchpoint.schema.events import FLAG_DEAD_ON_ARRIVAL, FLAG_RESPONDED
from pinchpoint.schema.terms import RESPONSE_STREAMS

if TYPE_CHECKING:
    from pinchpoint.probe.grpc_server import GrpcServerProbe


class Rpc(Call):
    """A sync RPC. `run` is submitted to the pool with the arguments of grpcio's own task.

    Streams and sampled RPCs are made as one; any other is a plain one (`grpc_plain`) until
    something needs it to be more.
    """

    detached = False

    def __init__(
        self, probe: GrpcServerProbe, recorder: Recorder, method: Method, server_id: int
    ) -> None:
        super().__init__(recorder, method.id, method.call_type, server_id)
        self.probe = probe

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
        measured = behaviour
        try:
            self.thread = thread = threads.state
            self.start(thread)
            thread.call = self
            self._behaviour = behaviour
            measured = self.behave
            if self.weight:
                self.trace_parent = trace_parent.find(rpc_event.invocation_metadata)
            if self.call_type:
                measured = self._measure_stream(behaviour)
            elif self.weight:
                thunk = self._measure_receive(rpc_event, state, deserializer)
                serializer = self._measure_serialize(serializer)
        except Exception as error:
            measured = behaviour
            self.probe.part.trip(error)
        try:
            in_pool(rpc_event, state, measured, thunk, deserializer, serializer)
        finally:
            try:
                threads.state.call = None
                if not (self.detached and self._close_later(rpc_event, state)):
                    self.close(rpc_event, state)
            except Exception as error:
                self.probe.part.trip(error)

    def _close_later(self, rpc_event: Any, state: Any) -> bool:
        """A non-blocking handler has returned: its stream goes on until grpcio ends it."""

        def close() -> None:
            try:
                self.close(rpc_event, state)
            except Exception as error:
                self.probe.part.trip(error)

        with state.condition:
            if state.statused or state.client == "cancelled" or state.callbacks is None:
                return False
            state.callbacks.append(close)
            self.thread = None
            return True

    def behave(self, request: Any, context: Any) -> Any:
        """The servicer's method, with its time taken."""
        try:
            self.behaviour_begins()
        except Exception as error:
            self.probe.part.trip(error)
        try:
            return self._behaviour(request, context)
        finally:
            try:
                self.behaviour_ended()
            except Exception as error:
                self.probe.part.trip(error)

    def _measure_stream(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        """A streaming method: what it returns is iterated by grpcio, for as long as it lasts."""
        self.meter()
        if self.call_type not in RESPONSE_STREAMS:
            return self.behave
        # grpcio calls it with a third argument, and asks for this attribute first.
        if getattr(behaviour, "experimental_non_blocking", False):
            self.detached = True
            self.behaviour_begins()
            return behaviour
        return self._begin_stream

    def _begin_stream(self, request: Any, context: Any) -> Any:
        try:
            self.behaviour_begins()
        except Exception as error:
            self.probe.part.trip(error)
        return self._behaviour(request, context)

    def _measure_receive(
        self, rpc_event: Any, state: Any, deserializer: Callable[[bytes], Any] | None
    ) -> Callable[[], Any]:
        """What gets the request, made anew by grpcio around a deserialiser that is timed."""

        def deserialize(data: bytes) -> Any:
            begin_ns = 0
            try:
                begin_ns = monotonic_ns()
            except Exception as error:
                self.probe.part.trip(error)
            message = data if deserializer is None else deserializer(data)
            try:
                self.request_bytes = len(data)
                self.deserialize_ns = monotonic_ns() - begin_ns
            except Exception as error:
                self.probe.part.trip(error)
            return message

        make: Callable[..., Callable[[], Any]] = self.probe.unary_request
        return make(rpc_event, state, deserialize)

    def _measure_serialize(self, serializer: Any) -> Any:
        if serializer is None:
            return serializer

        def serialize(response: Any) -> Any:
            data = serializer(response)
            try:
                if isinstance(data, bytes):
                    self.response_bytes = len(data)
                self.enter(SEND)
            except Exception as error:
                self.probe.part.trip(error)
            return data

        return serialize

    def close(self, rpc_event: Any, state: Any) -> None:
        """The worker is done with it: write its record."""
        self.probe.active.discard(self)
        state._pinchpoint = None
        if self.probe.part.enabled and self.probe.started is self.recorder:
            self.finish(self._status(rpc_event, state))

    def _status(self, rpc_event: Any, state: Any) -> int:
        status = final_status(rpc_event, state, self.aborted, self.arrival_ns)
        unheard = status == DEADLINE_EXCEEDED and not self.behaviour_ns
        if unheard and dead_on_arrival(rpc_event, self.arrival_ns):
            self.flags |= FLAG_DEAD_ON_ARRIVAL
        if status == OK:
            self.flags |= FLAG_RESPONDED
        return status

    def finish(self, status: int) -> None:
        """As of every call; the iteration of a stream's responses ends with the RPC."""
        if self.call_type in RESPONSE_STREAMS:
            self.flags &= ~FLAG_RESPONDED
            if self.behaviour_ns:
                self.behaviour_ended()
        super().finish(status)
