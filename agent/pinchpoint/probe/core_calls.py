"""The wait that no interceptor sees: RPCs that the gRPC core has accepted and Python has not.

While the serving thread or the event loop cannot run, RPCs pile up in the core. The core counts
what it has accepted (channelz, on by default); less what Python has seen that is the backlog, and
the integral of the backlog over time is the time that all of them have waited (Little's law
without a division). Sampled a few times a second, so it is an estimate: within a few per cent of
what clients measured for a backlog that lasts, off by up to 30 % for one that comes and goes within
a second (ADR 0010).

`channelz_get_servers` is a function of a private module and may be switched off by a server
(`grpc.enable_channelz=0`): then there is no estimate, and `reason` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

IDLE_POLL_NS = 1_000_000_000
"""Without traffic the core is asked once a second: an answer costs 0.3 ms of CPU."""

ABANDONED_AFTER_NS = 5_000_000_000
"""Calls that ended in the core and have not come to Python for this long will not come."""

NO_CHANNELZ = "this grpcio has no channelz: the wait before Python sees an RPC is not estimated"
NOT_LISTED = (
    "the gRPC core does not count this server's calls (grpc.enable_channelz=0): the wait before "
    "Python sees an RPC is not estimated"
)


class Counts(NamedTuple):
    """Calls of a server as the core counts them."""

    started: int
    ended: int


Ask = Callable[[], dict[int, Counts]]
"""Counts of every server of the process by its channelz id."""


def asker(cygrpc: object) -> Ask | None:
    """Asks the core through grpcio's module; None where it cannot be asked."""
    get_servers = getattr(cygrpc, "channelz_get_servers", None)
    if get_servers is None:
        return None

    def ask() -> dict[int, Counts]:
        import json

        answer = json.loads(get_servers(0))
        return {
            int(server["ref"]["serverId"]): Counts(
                int(data.get("callsStarted", 0)),
                int(data.get("callsSucceeded", 0)) + int(data.get("callsFailed", 0)),
            )
            for server in answer.get("server", ())
            for data in (server["data"],)
        }

    return ask


class CoreCalls:
    """The core's calls of one kind of server.

    Attributes:
        waiting: RPCs in the core, at the last poll.
        wait_ns: the time that all of them have waited, so far.
        abandoned: RPCs that ended in the core and never came to Python.
        reason: why there is no estimate; empty if there is one.
    """

    def __init__(self) -> None:
        self.waiting = self.wait_ns = self.abandoned = 0
        self.reason = NO_CHANNELZ
        self._ask: Ask | None = None
        self._others: set[int] = set()
        self._last: dict[int, Counts] = {}
        self._started = self._ended = self._missed = 0
        self._blind = False
        self._polled_ns = self._settled_ns = self._seen = 0

    def adopt(self, ask: Ask | None) -> None:
        """A server has just been made: the newest that the core knows is it."""
        self._ask = ask
        if ask is None:
            return
        servers = ask()
        new = servers.keys() - self._last.keys() - self._others
        if not new:
            self.reason = NOT_LISTED
            return
        own = max(new)
        self._others |= new - {own}  # made before the probe came: Python's side is not counted
        self._last[own] = servers[own]
        if self.reason == NO_CHANNELZ:  # one server that is not listed spoils the sum
            self.reason = ""

    def poll(self, now_ns: int, seen: Callable[[], int], *, counting: bool) -> None:
        """Ask the core, if it is time to.

        Args:
            now_ns: CLOCK_MONOTONIC.
            seen: RPCs that Python has seen so far, of the adopted servers; asked after the core.
            counting: whether `seen` is being counted; what comes while it is not, is left out.
        """
        if self.reason or self._ask is None:
            return
        if not counting:
            self._blind = True
            self.waiting = self._polled_ns = 0
            return
        quiet = seen() == self._seen and not (self.waiting or self._blind)
        if quiet and now_ns - self._polled_ns < IDLE_POLL_NS:
            return
        self._count(self._ask())
        seen_now = seen()
        if self._blind:
            self._missed = self._started - seen_now - self.abandoned
            self._blind = False
        self._integrate(now_ns, seen_now)

    def _count(self, servers: dict[int, Counts]) -> None:
        for server_id, last in list(self._last.items()):
            counts = servers.get(server_id)
            if counts is None:
                # Stopped. What it had accepted since the last poll is not known: start anew.
                del self._last[server_id]
                self._blind = True
                continue
            self._started += counts.started - last.started
            self._ended += counts.ended - last.ended
            self._last[server_id] = counts

    def _integrate(self, now_ns: int, seen: int) -> None:
        waiting = max(0, self._started - seen - self.abandoned - self._missed)
        if self._polled_ns:
            self.wait_ns += (self.waiting + waiting) * (now_ns - self._polled_ns) // 2
        if seen != self._seen or self._started != self._ended:
            self._settled_ns = now_ns
        elif waiting and now_ns - self._settled_ns >= ABANDONED_AFTER_NS:
            self.abandoned += waiting
            waiting = 0
        self._seen = seen
        self._polled_ns = now_ns
        self.waiting = waiting
