"""Pinchpoint: names the bottleneck of a production inference server, with evidence.

The public API of the serving process. Importing this costs nothing: the probe loads on
`install()`, and named stages at their first use.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__", "asgi", "install", "stage", "uninstall"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from pinchpoint.probe.stages import stage


def install() -> bool:
    """Start the probe in this process; idempotent. False if it could not start.

    Servers made before this are not seen: call it before the first `grpc.server(...)`.

    Reads the environment: `PINCHPOINT_RING_DIR` (where the ring is made, default
    `/dev/shm/pinchpoint`), `PINCHPOINT_DISABLE=1` (do nothing). Never raises.
    """
    from pinchpoint.probe.activate import install as start

    return start()


def asgi(app: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """An ASGI application, measured: `app = pinchpoint.asgi(app)`. Starts the probe.

    For applications that are neither served by uvicorn nor made with Starlette or FastAPI: those
    are measured by `install` alone, and once where both apply. The application is returned as
    it is if the probe is switched off. Never raises.
    """
    from pinchpoint.probe.activate import wrap_asgi

    measured: Callable[..., Awaitable[Any]] = wrap_asgi(app)
    return measured


def uninstall() -> None:
    """Stop the probe and put back what it replaced; idempotent."""
    from pinchpoint.probe.activate import uninstall as stop

    stop()


def __getattr__(name: str) -> object:
    """`stage(name)`: a named part of the server's work, measured wherever it runs.

    A context manager and a decorator: `with pinchpoint.stage("tokenise"): …` or
    `@pinchpoint.stage("tokenise")` before a function, coroutine function, generator or
    asynchronous generator. Nests; may be entered by any number of threads and tasks at once.
    Without a running probe it does nothing. The first 64 names are told apart, 100 characters of
    each. Raises TypeError for a name that is not a string, with and without the probe.
    """
    if name != "stage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pinchpoint.probe.stages import stage as found

    globals()["stage"] = found
    return found


def _install_if_enabled() -> None:
    """What `pinchpoint.start` in site-packages calls at every start of Python (PEP 829)."""
    import os

    if os.environ.get("PINCHPOINT_ENABLE", "") not in ("", "0"):
        install()
