"""A plain RPC of the sync server: unary and not sampled, as nearly all are.

Its times live in a list on grpcio's own `_RPCState`, and nobody makes an object for it. What
needs more (a forward, a named stage, an RPC that grpcio gives up on) `adopt`s it: from then on
it is an `Rpc` like the others. An object, its registry and a bound method for each RPC cost
3 µs more of the server's CPU (ADR 0009).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from pinchpoint.probe.call import PREPROCESS, QUEUE, RECEIVE, SERIALIZE, Call
from pinchpoint.probe.grpc_rpc import Rpc
from pinchpoint.probe.thread_state import ThreadState, threads
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED, FLAG_RESPONDED

if TYPE_CHECKING:
    from pinchpoint.probe.grpc_server import GrpcServerProbe

STATE_KEY = "_pinchpoint"
"""The attribute of an `_RPCState` that holds a plain RPC's times, or its `Rpc`; None at the end."""

ARRIVAL, START, BEHAVIOUR, END, METHOD, THREAD = range(6)
"""What is where in the list. Times are CLOCK_MONOTONIC nanoseconds, 0 until then."""

_FLAGS = FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED


class InFlight(NamedTuple):
    """A plain RPC as the sampler looks at it; the attributes are those of `Call`."""

    method_id: int
    server_id: int
    stage: int
    arrival_ns: int
    thread: ThreadState | None
    task: None = None


def in_flight(states: Iterable[Any], server_id: int) -> Iterator[InFlight]:
    """The plain RPCs among a server's `_RPCState`s that are not finished."""
    for state in states:
        times = state.__dict__.get(STATE_KEY)
        if type(times) is list:
            method, thread = times[METHOD], times[THREAD]
            yield InFlight(method.id, server_id, _stage(times), times[ARRIVAL], thread)


def _stage(times: list[Any]) -> int:
    if times[END]:
        return SERIALIZE
    if times[BEHAVIOUR]:
        return PREPROCESS
    return RECEIVE if times[START] else QUEUE


def adopt(probe: GrpcServerProbe, state: Any) -> Rpc:
    """The `Rpc` of a state, made of what is known of it so far if it was a plain one."""
    known = state._pinchpoint
    if isinstance(known, Rpc):
        return known
    rpc = Rpc(probe, probe.recorder, known[METHOD], probe.server_id)
    rpc.arrival_ns, rpc.start_ns = known[ARRIVAL], known[START]
    rpc.behaviour_ns, rpc.end_ns = known[BEHAVIOUR], known[END]
    rpc.stage = _stage(known)
    rpc.thread = known[THREAD]
    if rpc.behaviour_ns:
        rpc.flags = FLAG_BEHAVIOUR_CALLED
    probe.active.add(rpc)
    state._pinchpoint = rpc
    return rpc


def plain_run(probe: GrpcServerProbe) -> Callable[..., None]:
    """What the worker executes for a plain RPC in place of `in_pool(rpc_event, state, …)`."""
    part, recorder, server_id = probe.part, probe.recorder, probe.server_id
    models, shared, write = recorder.models, recorder.shared_forwards, recorder.plain

    def adopt_here(thread: ThreadState) -> Call:
        thread.call = rpc = adopt(probe, thread.plain)
        thread.plain = None
        return rpc

    def run(
        in_pool: Callable[..., None],
        rpc_event: Any,
        state: Any,
        behaviour: Callable[..., Any],
        thunk: Callable[[], Any],
        deserializer: Any,
        serializer: Any,
    ) -> None:
        measured = behaviour
        try:
            times = state._pinchpoint
            times[THREAD] = thread = threads.state
            thread.plain = state
            thread.adopt = adopt_here

            def timed(request: Any, context: Any) -> Any:
                try:
                    if models.pending:
                        models.before_handler()
                    times[BEHAVIOUR] = monotonic_ns()
                except Exception as error:
                    part.trip(error)
                try:
                    return behaviour(request, context)
                finally:
                    try:
                        times[END] = monotonic_ns()
                    except Exception as error:
                        part.trip(error)

            measured = timed
            times[START] = monotonic_ns()
        except Exception as error:
            part.trip(error)
        try:
            in_pool(rpc_event, state, measured, thunk, deserializer, serializer)
        finally:
            try:
                now_ns = monotonic_ns()
                thread.call = thread.plain = None
                known = state._pinchpoint
                if (
                    known is times
                    and state.statused
                    and state.code is None
                    and shared.last_end_ns <= times[BEHAVIOUR]
                    and part.enabled
                    and probe.started is recorder
                ):
                    state._pinchpoint = None
                    write(times, server_id, _FLAGS, now_ns)
                else:
                    rpc = adopt(probe, state)
                    rpc.behaviour_ns, rpc.end_ns = times[BEHAVIOUR], times[END]
                    if rpc.behaviour_ns:
                        rpc.flags |= FLAG_BEHAVIOUR_CALLED
                    rpc.close(rpc_event, state)
            except Exception as error:
                part.trip(error)

    return run
