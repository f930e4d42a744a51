"""The Python path of one sync unary RPC, without the network and without threads.

`grpc._server` runs as it is; what is below it (the C core) and beside it (the pool's
threads) is replaced: operations complete where the path waits for them, and the pool runs
its task in the calling thread. Everything else, real events and operations included, is what
a served RPC executes, on both of its threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from bench.overhead.echo import MESSAGE, PATH, register
from bench.overhead.variants import Bare


class Metadatum(NamedTuple):
    """A header of the request, as grpcio hands it out."""

    key: str
    value: str


METADATA = (
    Metadatum("user-agent", "grpc-c++/1.85.1 (linux; chttp2)"),
    Metadatum("x-request-id", "0af76519"),
)
PEER = "ipv4:127.0.0.1:40000"


class SyncServer:
    """A `grpc.server` of one variant, and the RPCs that it is made to believe in.

    Args:
        variant: has been installed.
        behaviour: the handler.
    """

    def __init__(self, variant: Bare, behaviour: Callable[[Any, Any], Any]) -> None:
        import grpc
        from grpc import _server

        self._module = _server
        self._pool = _Pool(8)
        self._server = grpc.server(self._pool, interceptors=list(variant.interceptors()))
        register(self._server, behaviour)
        variant.ready()
        self._state = self._server._state  # type: ignore[attr-defined]
        self._state.server = _Core()
        self._state.stage = _server._ServerStage.STARTED
        self._state.due.add(PATH)
        self._make_call(_server)

    def _make_call(self, server_module: Any) -> None:
        from grpc._cython import cygrpc  # type: ignore[attr-defined,unused-ignore]  # not in the stubs

        pending: list[Callable[[Any], Any]] = []
        statuses: list[Any] = []

        class Call(cygrpc.Call):  # type: ignore[misc]  # has no types
            def start_server_batch(self, operations: Any, tag: Callable[[Any], Any]) -> int:
                pending.append(tag)
                statuses.extend(
                    operation._code
                    for operation in operations
                    if isinstance(operation, cygrpc.SendStatusFromServerOperation)
                )
                return 0

            def peer(self) -> bytes:
                return PEER.encode()

        class Condition(threading.Condition):
            """Whoever waits is served at once."""

            def wait(condition, timeout: float | None = None) -> bool:  # noqa: N805
                self._complete(pending.pop())
                return True

        class State(server_module._RPCState):  # type: ignore[misc]  # has no types
            def __init__(self) -> None:
                super().__init__()
                self.condition = Condition()

        server_module._RPCState = State
        self._pending, self.statuses = pending, statuses
        self._done = cygrpc.CompletionType.operation_complete
        self._request_event, self._batch_event = cygrpc.RequestCallEvent, cygrpc.BatchOperationEvent
        self._call, self._details = Call(), cygrpc.CallDetails()
        self._operations = (_Received(),)

    def _complete(self, tag: Callable[[Any], Any]) -> None:
        event = self._batch_event(self._done, True, tag, self._operations)
        self._module._process_event_and_continue(self._state, event)

    def rpc(self) -> None:
        """Serve one RPC, from the core's event to the end of its state."""
        event = self._request_event(self._done, True, PATH, self._call, self._details, METADATA)
        self._module._process_event_and_continue(self._state, event)
        self._pool.run()
        while self._pending:
            self._complete(self._pending.pop())

    def rpcs(self, count: int) -> None:
        """Serve `count` RPCs.

        Raises:
            RuntimeError: one of them did not end, or not with OK.
        """
        self.statuses.clear()
        for _ in range(count):
            self.rpc()
        if self._state.rpc_states or len(self.statuses) != count or any(self.statuses):
            raise RuntimeError("the RPCs were not served")


class _Core:
    """The server below `grpc._server`."""

    def request_call(self, *_: Any) -> None:
        """Ready for the next RPC."""

    request_registered_call = request_call


class _Received:
    """The completed operation of both waits: a message, and an end without cancellation."""

    def message(self) -> bytes:
        """The request."""
        return MESSAGE

    def cancelled(self) -> bool:
        """Whether the client gave up."""
        return False


class _Done:
    """The future of a task that nobody waits for."""

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call at once."""
        callback(self)


class _Pool(ThreadPoolExecutor):
    """Keeps the submitted task until it is told to run it."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Keep a task."""
        self._task = fn, args, kwargs
        return _Done()

    def run(self) -> None:
        """Do what a worker would."""
        fn, args, kwargs = self._task
        fn(*args, **kwargs)
