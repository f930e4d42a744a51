"""Pinchpoint: names the bottleneck of a production inference server, with evidence.

The public API of the serving process. Importing this costs nothing: the probe loads on
`install()`.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__", "install", "uninstall"]


def install() -> bool:
    """Start the probe in this process; idempotent. False if it could not start.

    Servers made before this are not seen: call it before the first `grpc.server(...)`.

    Reads the environment: `PINCHPOINT_RING_DIR` (where the ring is made, default
    `/dev/shm/pinchpoint`), `PINCHPOINT_DISABLE=1` (do nothing). Never raises.
    """
    from pinchpoint.probe.activate import install as start

    return start()


def uninstall() -> None:
    """Stop the probe and put back what it replaced; idempotent."""
    from pinchpoint.probe.activate import uninstall as stop

    stop()
