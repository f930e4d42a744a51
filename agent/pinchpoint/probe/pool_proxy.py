"""Stands where a sync server keeps its pool: stamps every RPC's arrival as it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from weakref import ref

from pinchpoint.probe.grpc_plain import plain_run
from pinchpoint.probe.grpc_rpc import Rpc
from pinchpoint.probe.recorder import HASH, HASH_MASK

if TYPE_CHECKING:
    from pinchpoint.probe.grpc_server import GrpcServerProbe

UNARY_FUNCTION = "_unary_response_in_pool"
STREAM_FUNCTION = "_stream_response_in_pool"
RPC_FUNCTIONS = frozenset((UNARY_FUNCTION, STREAM_FUNCTION))
"""What grpcio runs in the pool for an RPC, by name."""


class PoolProxy:
    """Everything but `submit` is the pool's.

    Args:
        probe: whose server it is.
        pool: the server's own, or a handler's.
        state: grpcio's `_ServerState` that keeps us, or None.
    """

    def __init__(self, probe: GrpcServerProbe, pool: Any, state: Any) -> None:
        self.inner = pool
        self.submit = measured_submit(probe, pool)
        # Weak: the server's state holds us, and a cycle would keep its pool until a collection.
        self._state = None if state is None else ref(state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def rpc_states(self) -> list[Any]:
        """Grpcio's states of the RPCs that its server has not finished."""
        state = self._state and self._state()
        return list(state.rpc_states) if state else []

    @property
    def serving(self) -> bool:
        """Whether the server accepts RPCs (its stage is an enum of grpcio's own)."""
        state = self._state and self._state()
        return bool(state and state.stage.value == "started")

    def detach(self) -> None:
        """Give the server its own pool back."""
        state = self._state and self._state()
        if state and state.thread_pool is self:
            state.thread_pool = self.inner


def measured_submit(probe: GrpcServerProbe, pool: Any) -> Callable[..., Any]:
    """The pool's `submit`, which hands over RPCs in their measured form.

    A closure, because it runs on the serving thread for every RPC: what it needs is at hand.
    """
    part, active, arrivals, by_tag = probe.part, probe.active, probe.arrivals, probe.by_tag
    recorder, server_id, inner = probe.recorder, probe.server_id, pool.submit
    run_plain = plain_run(probe)

    def forget_cancelled(future: Any, rpc: Any) -> None:
        """A pool that is shut down may cancel what it has not begun."""

        def forget(done: Any) -> None:
            if done.cancelled():
                active.discard(rpc)

        # A pool of somebody's own may give out futures that cannot be asked.
        if hasattr(future, "cancelled") and hasattr(future, "add_done_callback"):
            try:
                future.add_done_callback(forget)
            except Exception as error:
                part.trip(error)

    def submit(*args: Any, **named: Any) -> Any:
        count = len(args)
        if count == 8:
            call, in_pool, rpc_event, state, behaviour, thunk, deserializer, serializer = args
        elif count == 7:  # grpcio up to 1.58: without `state.context.run`, which comes first
            in_pool, rpc_event, state, behaviour, thunk, deserializer, serializer = args
            call = _call
        else:
            return inner(*args, **named)
        run = None
        if part.enabled and not named:
            try:
                if getattr(in_pool, "__name__", "") in RPC_FUNCTIONS:
                    # A registered method's name is the event's tag; of others it comes as bytes.
                    method = by_tag.get(rpc_event.tag) or probe.find(rpc_event, in_pool, thunk)
                    probe.seen = arrival = arrivals()
                    sampled = (arrival * HASH) & HASH_MASK < recorder.threshold
                    if method.plain and not sampled:
                        state._pinchpoint = [monotonic_ns(), 0, 0, 0, method, None]
                        run = run_plain
                    elif method.watched:
                        state._pinchpoint = rpc = Rpc(probe, recorder, method, server_id)
                        rpc.weight = recorder.weigh() if sampled else 0
                        active.add(rpc)
                        run = rpc.run
            except Exception as error:
                part.trip(error)
                run = None
        if run is None:
            return inner(*args, **named)
        try:
            future = inner(
                call, run, in_pool, rpc_event, state, behaviour, thunk, deserializer, serializer
            )
            if run is not run_plain:
                forget_cancelled(future, state._pinchpoint)
            return future
        except BaseException:
            begun, state._pinchpoint = state._pinchpoint, None
            if isinstance(begun, Rpc):
                active.discard(begun)
            raise

    return submit


def _call(fn: Any, *args: Any) -> Any:
    return fn(*args)
