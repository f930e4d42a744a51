"""The decomposition against the truth: requests whose parts are known by other clocks than ours."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import pytest

from pinchpoint.schema.terms import COMPONENTS
from tests.integration.composed_server import AROUND_METHOD, METHOD, Around, Inside
from tests.integration.processes import ANY_PORT, PINCHPOINT, programs
from tests.integration.scraping import PAUSE_SECONDS, Endpoint, endpoint_of
from tests.support.waiting import until

pytestmark = pytest.mark.integration

CPU_MS = 20
SLEEP_MS = 30
THINK_MS = 10
CLIENTS = 2
"""Two clients and one worker: while one request is served for 50 ms, the other client thinks for 10
and then waits for the other 40."""
LOAD_SECONDS = 5.0
"""A few verdicts have windows of 10 s that hold all of it, also where looks come late."""

PART = 0.10
"""How near each component has to come to what is true of it."""
TOTAL = 0.05
"""The same of the whole, and the most that may be blamed on what did not happen."""

CALL_SECONDS = 30.0
POLL_SECONDS = 0.5
"""Twice the period at which the agent reads the ring."""


class Bounds(NamedTuple):
    """What is true of the mean request, in seconds: at least, and at most."""

    least: float
    most: float

    def hold(self, seconds: float, tolerance: float) -> bool:
        """Whether that is as near to the truth as this."""
        return self.least * (1 - tolerance) <= seconds <= self.most * (1 + tolerance)


@dataclass(frozen=True)
class Measured:
    """What the agent says of the requests, and what is true of them."""

    verdict: dict[str, Any]
    cpu: Bounds
    sleep: Bounds
    queue: Bounds
    handler: Bounds
    latency: Bounds
    requests: int

    @property
    def decomposition(self) -> dict[str, Any]:
        """The decomposition of the verdict."""
        found: dict[str, Any] = self.verdict["decomposition"]
        return found

    def component(self, name: str) -> float:
        """Mean seconds of a component."""
        (seconds,) = [c["seconds"] for c in self.decomposition["components"] if c["name"] == name]
        return float(seconds)


@dataclass
class Client:
    """Calls, thinks and calls again; keeps each latency and what each answer says."""

    channel: grpc.Channel

    def __post_init__(self) -> None:
        self.latencies_ns: list[int] = []
        self.inside: list[Inside] = []

    def run(self) -> None:
        """Send all requests of this client."""
        handle: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(METHOD)
        end_ns = time.monotonic_ns() + LOAD_SECONDS * 1e9
        while (sent_ns := time.monotonic_ns()) < end_ns:
            answer = handle(b"", timeout=CALL_SECONDS)
            self.latencies_ns.append(time.monotonic_ns() - sent_ns)
            self.inside.append(Inside(*json.loads(answer)))
            time.sleep(THINK_MS / 1000)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A run of the composed server, seen by the agent and by its clients."""
    with programs(tmp_path_factory.mktemp("composed")) as started:
        arguments = ["-m", "tests.integration.composed_server", str(CPU_MS), str(SLEEP_MS)]
        command = [sys.executable, *arguments]
        program = started.start(*PINCHPOINT, "run", ANY_PORT, "--", *command)
        agent = endpoint_of(program)
        with grpc.insecure_channel(program.says(r"^listening on (\S+)$")) as channel:
            grpc.channel_ready_future(channel).result(CALL_SECONDS)
            clients = [Client(channel) for _ in range(CLIENTS)]
            run_together(clients)
            verdict = verdict_after(time.time() + POLL_SECONDS, agent)
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(AROUND_METHOD)
            around = [Around(*each) for each in json.loads(ask(b"", timeout=CALL_SECONDS))]
        return compare(verdict, clients, around)


def run_together(clients: list[Client]) -> None:
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def verdict_after(wall_seconds: float, agent: Endpoint) -> dict[str, Any]:
    """The first verdict of a later time."""
    found: list[dict[str, Any]] = []

    def ask() -> bool:
        time.sleep(PAUSE_SECONDS)
        verdict = agent.verdict()
        if verdict is not None and verdict["time_seconds"] > wall_seconds:
            found.append(verdict)
        return bool(found)

    assert until(ask), "the agent has given no verdict"
    return found[0]


def compare(verdict: dict[str, Any], clients: list[Client], around: list[Around]) -> Measured:
    """Means over all requests."""
    inside = [each for client in clients for each in client.inside]
    latencies_ns = [each for client in clients for each in client.latencies_ns]
    assert len(inside) == len(around)

    def mean(values_ns: Iterable[int]) -> float:
        return sum(values_ns) / len(around) / 1e9

    queued = mean(a.begun_ns - a.submitted_ns for a in around)
    handled = mean(i.end_ns - i.begin_ns for i in inside)
    arrived = mean(a.came_ns for a in around)
    return Measured(
        verdict=verdict,
        cpu=Bounds(mean(i.cpu_ns for i in inside), mean(a.cpu_ns for a in around)),
        sleep=Bounds(mean(i.still_ns for i in inside), mean(i.sleep_ns for i in inside)),
        queue=Bounds(queued, mean(i.begin_ns for i in inside) - arrived),
        handler=Bounds(handled, mean(a.ended_ns - a.begun_ns for a in around)),
        latency=Bounds(queued + handled, mean(latencies_ns)),
        requests=len(around),
    )


def test_the_requests_were_made_as_planned(measured: Measured) -> None:
    """So that what follows compares what it means to: nothing of it is next to nothing."""
    assert measured.cpu.least >= CPU_MS / 1000
    assert measured.sleep.most >= SLEEP_MS / 1000
    assert measured.queue.least >= THINK_MS / 1000


def test_the_window_holds_all_requests(measured: Measured) -> None:
    """Each is counted once."""
    assert measured.verdict["traffic"]["requests"] == measured.requests


def test_cpu_is_what_the_handler_burned(measured: Measured) -> None:
    """CPU time is that of the thread's own clock."""
    assert measured.cpu.hold(measured.component("cpu"), PART)


def test_a_sleep_is_a_wait_for_something_else(measured: Measured) -> None:
    """A handler that sleeps for 30 ms is seen to wait for 30 ms, downstream."""
    assert measured.sleep.hold(measured.component("downstream"), PART)


def test_queue_is_the_wait_for_the_worker(measured: Measured) -> None:
    """From the call's arrival in Python to the handler's first statement."""
    assert measured.queue.hold(measured.component("queue"), PART)


def test_the_total_is_what_the_client_saw(measured: Measured) -> None:
    """At most, because the way to the server and back is the client's alone."""
    assert measured.latency.hold(measured.decomposition["mean_latency_seconds"], TOTAL)


def test_components_are_disjoint_and_sum_to_the_latency(measured: Measured) -> None:
    """No second is counted twice and none is lost."""
    components = measured.decomposition["components"]
    assert [component["name"] for component in components] == list(COMPONENTS)
    total = sum(component["seconds"] for component in components)
    assert total == pytest.approx(measured.decomposition["mean_latency_seconds"], rel=0.01)
    assert sum(component["share_ratio"] for component in components) == pytest.approx(1, abs=0.01)


def test_what_is_not_attributed_is_told_and_small(measured: Measured) -> None:
    """The share that nothing explains is part of the answer."""
    ratio = measured.decomposition["unattributed_ratio"]
    latency = measured.decomposition["mean_latency_seconds"]
    assert ratio == pytest.approx(measured.component("unattributed") / latency)
    assert 0 <= ratio < PART


def test_nothing_is_blamed_on_a_lock_that_nobody_held(measured: Measured) -> None:
    """What the handler did not do has no share worth a look."""
    latency = measured.decomposition["mean_latency_seconds"]
    for name in ("gil", "gc", "lock", "disk", "throttled", "memory", "device", "batch"):
        assert measured.component(name) < TOTAL * latency, name


def test_the_handlers_stage_is_as_long_as_the_handler(measured: Measured) -> None:
    """Stages hold wall time, waits for a CPU included."""
    stages = {stage["name"]: stage["wall_seconds"] for stage in measured.decomposition["stages"]}
    assert measured.handler.hold(stages["handler"], PART)
