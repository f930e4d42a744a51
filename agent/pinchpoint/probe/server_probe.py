"""What all kinds of servers that the probe attaches to have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, ClassVar

from pinchpoint.probe.call import Call
from pinchpoint.probe.core_calls import CoreCalls
from pinchpoint.probe.guard import Part
from pinchpoint.probe.patches import Patches
from pinchpoint.probe.recorder import Recorder
from pinchpoint.schema.observations import NameKind


class ServerProbe(ABC):
    """One kind of server of this process: sync gRPC, `grpc.aio`, HTTP.

    Args:
        part: the guard's part for this hook; while it is off nothing is seen.
        start: makes the recorder, when the first server is made.
        active: all requests of the process that have come and are not finished.

    Attributes:
        name: of the kind, as `pinchpoint dump` shows it; `server_id` is its id in the ring.
        seen: requests that have come, rejected ones and gRPC's health checks included.
        arrivals: the number of the next; it is what `seen` is set to.
        started: the recorder, once it is made.
        core: the calls that the gRPC core has accepted; None where there is no such thing.
    """

    name: ClassVar[str]

    def __init__(self, part: Part, start: Callable[[], Recorder], active: set[Call]) -> None:
        self.part = part
        self.active = active
        self.core: CoreCalls | None = None
        self.started: Recorder | None = None
        self.server_id = self.seen = 0
        self.arrivals = count(1).__next__
        self._start = start
        self._patches = Patches()

    @property
    def present(self) -> bool:
        """Whether this process has made one."""
        return self.started is not None

    @property
    def recorder(self) -> Recorder:
        """Where records go; made at first use."""
        if self.started is None:
            recorder = self._start()
            # First: whoever finds the recorder takes the id with it.
            self.server_id = recorder.intern(NameKind.SERVER, self.name)
            self.started = recorder
        return self.started

    @abstractmethod
    def workers(self) -> int | None:
        """Threads that handle its requests; None where none do, or it cannot be told."""

    def uninstall(self) -> None:
        """Put back everything that was replaced."""
        self.part.enabled = False
        self._patches.undo()

    def forget(self) -> None:
        """After a fork, in the child: nothing of the parent's is ours."""
        self.started = None
        self.seen = 0
        self.arrivals = count(1).__next__
        if self.core is not None:
            self.core = CoreCalls()


def threads_of(pools: Iterable[Any]) -> int | None:
    """Threads of all these pools; None if there is none, or one does not say."""
    sizes = [getattr(pool, "_max_workers", None) for pool in pools]
    known = [size for size in sizes if isinstance(size, int)]
    return sum(known) if known and len(known) == len(sizes) else None
