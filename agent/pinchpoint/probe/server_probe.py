"""What the sampler asks of every kind of server that the probe attaches to."""

from __future__ import annotations

from typing import Protocol

from pinchpoint.probe.core_calls import CoreCalls
from pinchpoint.probe.guard import Part


class ServerProbe(Protocol):
    """One kind of server of this process: sync gRPC, `grpc.aio`, HTTP.

    Attributes:
        name: of the kind, as `pinchpoint dump` shows it.
        present: whether this process has made one.
        seen: requests that have come so far, rejected ones and health checks included.
        part: the guard's; while it is off nothing is seen.
        core: the calls that the gRPC core has accepted; None where there is no such thing.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def present(self) -> bool:
        """See above."""

    @property
    def seen(self) -> int:
        """See above."""

    @property
    def part(self) -> Part:
        """See above."""

    @property
    def core(self) -> CoreCalls | None:
        """See above."""

    def workers(self) -> int | None:
        """Threads that handle its requests; None where none do, or it cannot be told."""

    def uninstall(self) -> None:
        """Put back everything that was replaced."""

    def forget(self) -> None:
        """After a fork, in the child: nothing of the parent's is ours."""
