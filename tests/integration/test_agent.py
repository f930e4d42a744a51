"""`pinchpoint agent` alone: servers come, go, restart and crash beside it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinchpoint.ring.layout import HEADER_BYTES, MAGIC
from pinchpoint.schema import wire
from tests.integration.processes import ANY_PORT, PINCHPOINT, Program, Programs, programs
from tests.integration.scraping import Endpoint, Metrics, endpoint_of
from tests.support.rings import ring_files
from tests.support.scripts import ECHO_SERVER, Script, running
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration

CALL_SECONDS = 30.0

SERVER = (
    ECHO_SERVER
    + """
import threading


def hang(request, context):
    threading.Event().wait()


pinchpoint.install()
server, port = echo_server()
hanging = {"Hang": grpc.unary_unary_rpc_method_handler(hang)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Hung", hanging),))
say(port)
sys.stdin.readline()
server.stop(None).wait()
"""
)
"""Echoes until it is told a line; `Hang` never answers."""


class Server:
    """A running server with the probe in it, and a channel to it."""

    def __init__(self, script: Script, channel: grpc.Channel) -> None:
        self.script = script
        # Without serialisers the calls carry plain bytes.
        self._echo: Any = channel.unary_unary("/test.Service/Echo")
        self._hang: Any = channel.unary_unary("/test.Hung/Hang")

    def call(self, times: int = 1) -> None:
        """Calls that are all answered."""
        for _ in range(times):
            assert self._echo(b"hello", timeout=CALL_SECONDS) == b"hello"

    def hang(self) -> None:
        """A call that is never answered, and not waited for."""
        self._hung = self._hang.future(b"")  # one that is let go of is cancelled

    def end(self) -> None:
        """End it as its operator would."""
        self.script.tell("end")
        self.script.process.wait(CALL_SECONDS)


@contextmanager
def serving(ring_dir: Path) -> Iterator[Server]:
    """A server that writes its ring to a directory."""
    with (
        running(SERVER, ring_dir) as script,
        grpc.insecure_channel(f"127.0.0.1:{script.line()}") as channel,
    ):
        grpc.channel_ready_future(channel).result(CALL_SECONDS)
        yield Server(script, channel)


class Sidecar:
    """A running agent."""

    def __init__(self, started: Programs, ring_dir: Path) -> None:
        self._command = (*PINCHPOINT, "agent", ANY_PORT, f"--ring-dir={ring_dir}")
        self._started = started
        self.start()

    def start(self) -> None:
        """Start it, or another one in its place; it has looked for rings by then."""
        self.program: Program = self._started.start(*self._command)
        self.http: Endpoint = endpoint_of(self.program)
        assert until(lambda: self.http.get("/-/ready")[0] == 200)

    def scrape_with(self, requests: int) -> Metrics:
        """A scrape in which so many requests are counted."""
        return self.http.scrape_when(lambda metrics: echoes(metrics) == requests)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    """Programs that end with the test."""
    with programs(tmp_path) as programs_of_the_test:
        yield programs_of_the_test


@pytest.fixture
def agent(started: Programs, ring_dir: Path) -> Sidecar:
    """An agent that is ready before any server is."""
    return Sidecar(started, ring_dir)


def echoes(metrics: Metrics) -> float:
    """Finished calls of the echo."""
    return metrics.total("grpc_server_handled_total", grpc_method="Echo")


Totals = dict[tuple[str, frozenset[tuple[str, str]]], float]

ECHO = {"grpc_type": "unary", "grpc_service": "test.Service", "grpc_method": "Echo"}
HANDLED = ("grpc_server_handled_total", frozenset({**ECHO, "grpc_code": "OK"}.items()))


def totals(metrics: Metrics) -> Totals:
    """Everything that may only grow, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in metrics.families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def fallen(earlier: Totals, later: Totals) -> list[str]:
    """Names of totals that are less than they were, or gone."""
    return [key[0] for key, value in earlier.items() if later.get(key, -1) < value]


# Servers come and go


def test_a_server_that_starts_later_is_counted_from_its_first_request(
    agent: Sidecar, ring_dir: Path
) -> None:
    """The agent was there first: nothing is missed."""
    with serving(ring_dir) as server:
        server.call(7)
        metrics = agent.scrape_with(7)
        assert echoes(metrics) == 7
        assert metrics.total("pinchpoint_rings") == 1


def test_a_server_that_was_there_before_is_counted_from_now_on(
    started: Programs, ring_dir: Path
) -> None:
    """Counters start at zero, as after any restart."""
    with serving(ring_dir) as server:
        server.call(5)
        agent = Sidecar(started, ring_dir)
        server.call(3)
        assert echoes(agent.scrape_with(3)) == 3


def test_servers_before_and_after_are_counted_together(started: Programs, ring_dir: Path) -> None:
    """One agent serves all rings of its directory."""
    with serving(ring_dir) as before:
        agent = Sidecar(started, ring_dir)
        with serving(ring_dir) as after:
            before.call(4)
            after.call(6)
            metrics = agent.scrape_with(10)
            assert echoes(metrics) == 10
            assert metrics.total("pinchpoint_rings") == 2


def test_no_counter_falls_when_the_server_restarts(agent: Sidecar, ring_dir: Path) -> None:
    """Totals are of the service, not of a process: a rolling restart is not a reset."""
    with serving(ring_dir) as server:
        server.call(20)
        before = totals(agent.scrape_with(20))
        server.end()
    between = agent.http.scrape_when(lambda metrics: metrics.total("pinchpoint_rings") == 0)
    assert between.total("pinchpoint_rings") == 0
    with serving(ring_dir) as server:
        server.call(5)
        after = totals(agent.scrape_with(25))
    assert fallen(before, totals(between)) == []
    assert fallen(totals(between), after) == []
    assert after[HANDLED] == 25


# Crashes


def test_a_killed_agent_fails_no_request(agent: Sidecar, ring_dir: Path) -> None:
    """The server does not know whether an agent exists; the next one reads on."""
    with serving(ring_dir) as server:
        caller = Caller(server)
        assert until(lambda: echoes(agent.http.scrape()) > 100)
        agent.program.kill()
        before = caller.answered
        assert until(lambda: caller.answered > before + 100)
        agent.start()
        assert until(lambda: echoes(agent.http.scrape()) > 100)
        caller.finish()
        assert caller.failures == []


class Caller:
    """Calls a server without a pause until it is told to finish."""

    def __init__(self, server: Server) -> None:
        self.answered = 0
        self.failures: list[grpc.RpcError] = []
        self._server = server
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> None:
        """Stop calling."""
        self._enough.set()
        self._thread.join(LIMIT_SECONDS)

    def _run(self) -> None:
        while not self._enough.wait(0.001):
            try:
                self._server.call()
                self.answered += 1
            except grpc.RpcError as error:
                self.failures.append(error)


def in_flight(metrics: Metrics) -> float:
    """Requests that the server has not finished."""
    return metrics.total("pinchpoint_requests_in_flight")


def test_a_killed_server_leaves_no_ring_and_nothing_in_flight(
    agent: Sidecar, ring_dir: Path
) -> None:
    """What a crash leaves is read, let go of and removed; its totals stay."""
    with serving(ring_dir) as server:
        server.call(3)
        server.hang()
        hung = agent.http.scrape_when(lambda metrics: in_flight(metrics) == 1)
        assert in_flight(hung) == 1
        assert hung.total("pinchpoint_oldest_request_age_seconds") > 0
        assert len(ring_files(ring_dir)) == 1
        server.script.kill()
    gone = agent.http.scrape_when(lambda metrics: metrics.total("pinchpoint_rings") == 0)
    assert gone.values("pinchpoint_requests_in_flight") == []
    assert gone.values("pinchpoint_oldest_request_age_seconds") == []
    assert gone.values("pinchpoint_process_threads") == []
    assert echoes(gone) == 3
    assert gone.total("grpc_server_started_total", grpc_method="Hang") == 1
    assert until(lambda: ring_files(ring_dir) == [])
    assert agent.program.process.poll() is None


def test_a_server_after_a_killed_one_is_attached(agent: Sidecar, ring_dir: Path) -> None:
    """A crash loop is counted through."""
    for crashes in range(1, 4):
        with serving(ring_dir) as server:
            server.call(10)
            assert echoes(agent.scrape_with(10 * crashes)) == 10 * crashes
            server.script.kill()
    assert until(lambda: ring_files(ring_dir) == [])


# Files that are no rings


def test_what_is_no_ring_is_counted_and_said_once(agent: Sidecar, ring_dir: Path) -> None:
    """Garbage and other versions are left alone, and good rings beside them are read."""
    (ring_dir / "garbage.ring").write_bytes(b"\xa5" * (2 * HEADER_BYTES))
    (ring_dir / "empty.ring").touch()
    future = MAGIC + bytes([wire.VERSION + 1, 0, 0, 0]) + bytes(HEADER_BYTES)
    (ring_dir / "future.ring").write_bytes(future)
    with serving(ring_dir) as server:
        server.call(2)
        assert echoes(agent.scrape_with(2)) == 2
        # Several looks later still each file once.
        server.call(2)
        metrics = agent.scrape_with(4)
        assert metrics.values("pinchpoint_ring_errors_total") == [3]
        assert metrics.total("pinchpoint_rings") == 1
    for name, reason in (
        ("garbage.ring", "not a Pinchpoint ring"),
        ("empty.ring", "not a Pinchpoint ring"),
        ("future.ring", f"ring format {wire.VERSION + 1}, this agent reads format {wire.VERSION}"),
    ):
        said = [text for text in agent.program.err.splitlines() if name in text]
        assert len(said) == 1
        assert reason in said[0]
        assert (ring_dir / name).exists()


# Its own life


def test_an_agent_without_any_server_is_healthy_and_says_so(agent: Sidecar) -> None:
    """Nothing to read is no fault: probes of the pod pass and there is a verdict."""
    assert agent.http.get("/-/healthy") == (200, "Pinchpoint is Healthy.\n")
    assert agent.http.get("/-/ready") == (200, "Pinchpoint is Ready.\n")
    metrics = agent.http.scrape_when(lambda scrape: scrape.values("pinchpoint_rings"))
    assert metrics.values("pinchpoint_bottleneck_primary_info", type="unknown") == [1]
    assert metrics.total("pinchpoint_rings") == 0
    verdict = agent.http.verdict()
    assert verdict is not None
    assert (verdict["state"], verdict["decomposition"]) == ("unknown", None)


def test_an_unknown_path_is_404(agent: Sidecar) -> None:
    """What is not served is said so, with where to look."""
    status, text = agent.http.get("/debug")
    assert status == 404
    assert "see /" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_it_with_0(agent: Sidecar, number: signal.Signals) -> None:
    """Being stopped is no failure, and nothing is said of it."""
    agent.program.process.send_signal(number)
    assert agent.program.wait() == 0
    assert "Traceback" not in agent.program.err
