"""What kind of wait a suspended task is in, from where its frames rest. See `stacks`."""

from __future__ import annotations

from collections.abc import Callable

from pinchpoint.samplers.code_origin import Origin, origin_of
from pinchpoint.samplers.task_chain import Chain, Place

_EXECUTOR_CALLS = frozenset({"run_in_executor", "run_sync", "to_thread", "wrap_future"})
_EXECUTOR_FILES = ("/asyncio/threads.py", "/anyio/to_thread.py", "/anyio/_backends/_asyncio.py")
_LOCK_FILES = ("/asyncio/locks.py", "/asyncio/queues.py")
_SOCKET_FILES = (
    "/asyncio/base_events.py",
    "/asyncio/selector_events.py",
    "/asyncio/sslproto.py",
    "/asyncio/streams.py",
)
_SOCKET_CALLS = frozenset({"sock_accept", "sock_connect", "sock_recv", "sock_recv_into"})
_CLIENTS = (Origin.CLIENT, Origin.GRPC_CLIENT)


def categorise_task(chain: Chain, awaited: str | None) -> str:
    """The category, one of `terms.WAIT_CATEGORIES`.

    Args:
        chain: of the task.
        awaited: what its innermost frame has called to get what it awaits, if that is known.
    """
    if chain.ready:
        return "loop"
    if _behind(chain.places) in _CLIENTS:
        return "client"
    if chain.native:
        # grpcio's own half of the RPC waits for its client: a message, or room for one.
        return "socket"
    return _kind(chain.places, awaited)


def _behind(places: list[Place]) -> Origin:
    origins = (origin_of(place.code.co_filename) for place in places)
    return next((origin for origin in origins if origin is not Origin.GLUE), Origin.GLUE)


def _kind(places: list[Place], awaited: str | None) -> str:
    if not places:
        return "unknown"
    code = places[0].code
    if awaited in _EXECUTOR_CALLS or _any(places, _EXECUTOR_FILES):
        return "executor"
    if code.co_filename.endswith("/asyncio/tasks.py") and code.co_name == "sleep":
        return "sleep"
    if code.co_filename.endswith(_LOCK_FILES):
        return "lock"
    if awaited in _SOCKET_CALLS or code.co_filename.endswith(_SOCKET_FILES):
        return "socket"
    # A bare future: somebody else in this process will settle it.
    return "lock"


def _any(places: list[Place], files: tuple[str, ...]) -> bool:
    """Whether a wait on behalf of its caller ends in one of these files."""
    for place in places:
        if place.code.co_filename.endswith(files):
            return True
        if origin_of(place.code.co_filename) is not Origin.GLUE:
            return False
    return False


def shown(places: list[Place]) -> Place:
    """The server's own innermost place, else a library's, else the innermost of all."""
    return _first_of(places, lambda origin: origin is Origin.OWN) or (
        _first_of(places, lambda origin: origin in (*_CLIENTS, Origin.LIBRARY)) or places[0]
    )


def _first_of(places: list[Place], wanted: Callable[[Origin], bool]) -> Place | None:
    return next((p for p in places if wanted(origin_of(p.code.co_filename))), None)
