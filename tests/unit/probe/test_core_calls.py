from __future__ import annotations

import pytest

from pinchpoint.probe.core_calls import ABANDONED_AFTER_NS, CoreCalls, Counts, asker

SECOND_NS = 1_000_000_000


class Core:
    """The gRPC core's counters, and Python's beside them."""

    def __init__(self) -> None:
        self.servers: dict[int, Counts] = {}
        self.seen = 0
        self.calls = CoreCalls()
        self.now_ns = 10 * SECOND_NS

    def add_server(self, server_id: int, started: int = 0, ended: int = 0) -> None:
        self.servers[server_id] = Counts(started, ended)
        self.calls.adopt(lambda: dict(self.servers))

    def poll(self, seconds: float = 1.0, *, counting: bool = True) -> CoreCalls:
        self.now_ns += round(seconds * SECOND_NS)
        self.calls.poll(self.now_ns, lambda: self.seen, counting=counting)
        return self.calls


@pytest.fixture
def core() -> Core:
    core = Core()
    core.add_server(1)
    core.poll()
    return core


def test_the_wait_is_the_integral_of_what_python_has_not_seen(core: Core) -> None:
    """Ten calls for two seconds, with half of each edge."""
    core.servers[1] = Counts(10, 0)
    assert core.poll().waiting == 10
    core.poll(0.2)
    core.poll(1.8)
    core.seen = 10
    calls = core.poll()
    assert calls.waiting == 0
    assert calls.wait_ns == (5 + 20 + 5) * SECOND_NS


def test_a_quiet_core_is_asked_once_a_second(core: Core) -> None:
    """Each answer costs CPU; only a backlog is worth more of it."""
    core.servers[1] = Counts(3, 0)
    assert core.poll(0.2).waiting == 0
    assert core.poll(0.8).waiting == 3
    core.servers[1] = Counts(4, 0)
    assert core.poll(0.2).waiting == 4


def test_calls_that_end_in_the_core_and_never_come_are_abandoned(core: Core) -> None:
    """Not at once: Python may be late to see what is already over."""
    core.servers[1] = Counts(5, 5)
    core.seen = 3
    assert core.poll().abandoned == 0
    core.poll(ABANDONED_AFTER_NS / SECOND_NS / 2)
    assert core.calls.waiting == 2
    calls = core.poll(ABANDONED_AFTER_NS / SECOND_NS / 2)
    assert (calls.abandoned, calls.waiting) == (2, 0)
    core.servers[1] = Counts(6, 5)
    assert core.poll().waiting == 1


def test_calls_that_still_run_in_the_core_are_not_abandoned(core: Core) -> None:
    """A loop that has been blocked for long will come to them."""
    core.servers[1] = Counts(2, 0)
    for _ in range(3):
        core.poll(ABANDONED_AFTER_NS / SECOND_NS)
    assert (core.calls.abandoned, core.calls.waiting) == (0, 2)


def test_a_server_made_before_the_probe_is_left_out() -> None:
    """Python's side of its calls is not counted, so the core's must not be."""
    core = Core()
    core.servers[1] = Counts(100, 50)
    core.add_server(2)
    core.servers[1] = Counts(900, 50)
    core.servers[2] = Counts(1, 0)
    assert core.poll().waiting == 1


def test_a_stopped_server_takes_nothing_back(core: Core) -> None:
    """The core forgets it, with all that it counted."""
    core.servers[1] = Counts(7, 7)
    core.seen = 7
    core.poll()
    core.add_server(2)
    del core.servers[1]
    core.seen = 12  # five more that the first had accepted before it stopped
    assert core.poll().waiting == 0
    core.servers[2] = Counts(2, 0)
    assert core.poll().waiting == 2


def test_one_server_that_is_not_listed_leaves_no_estimate(core: Core) -> None:
    """What Python has seen of it cannot be told from the rest."""
    core.calls.adopt(dict)
    core.servers[2] = Counts(0, 0)
    core.add_server(2)
    assert "enable_channelz" in core.calls.reason


def test_what_comes_while_nobody_counts_is_left_out(core: Core) -> None:
    """The kill switch must not look like a backlog."""
    core.poll(counting=False)
    core.servers[1] = Counts(1000, 1000)
    core.poll(counting=False)
    assert core.poll().waiting == 0
    core.servers[1] = Counts(1001, 1000)
    calls = core.poll()
    assert calls.waiting == 1
    assert calls.wait_ns <= SECOND_NS


def test_a_core_that_does_not_count_says_why() -> None:
    """A server may switch channelz off; a grpcio may not have it."""
    calls = CoreCalls()
    calls.adopt(None)
    assert "no channelz" in calls.reason
    calls.adopt(dict)
    assert "enable_channelz" in calls.reason
    calls.poll(SECOND_NS, lambda: 5, counting=True)
    assert (calls.waiting, calls.wait_ns) == (0, 0)


def test_a_module_without_channelz_cannot_be_asked() -> None:
    """The function is private to grpcio."""
    assert asker(object()) is None
