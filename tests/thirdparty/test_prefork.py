"""Servers of several processes: one ring each, gone after its process, nothing lost, no growth."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinchpoint.ring.housekeeping import DEAD_RING_KEPT_SECONDS
from tests.integration.processes import Program, programs
from tests.integration.scraping import Metrics
from tests.support.rings import contents
from tests.support.waiting import LIMIT_SECONDS, until
from tests.thirdparty import environment
from tests.thirdparty.environment import PYTHON, SERVERS, unused_port
from tests.thirdparty.observed import Observed, counts, is_whole, ring_pids, under_the_probe

pytestmark = pytest.mark.integration

WHO = "/prefork.Workers/Who"
METHODS = ["fork", "forkserver", "spawn"]
CALLS = 20
RESTARTS = 20


def ready(program: Program) -> list[int]:
    """The workers that have come up so far, dead ones among them."""
    return [int(pid) for pid in re.findall(r"^ready (\d+)$", program.out, re.MULTILINE)]


def serve(seen: Observed, method: str, workers: int) -> tuple[Program, int]:
    """A server whose workers are all there, and its port."""
    port = unused_port()
    program = seen.serve(PYTHON, SERVERS / "prefork.py", method, port, workers)
    assert until(lambda: len(ready(program)) == workers), program.err
    return program, port


def replace(program: Program, pid: int) -> int:
    """Kill a worker and wait for the one that takes its place."""
    before = len(ready(program))
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: len(ready(program)) == before + 1), program.err
    return ready(program)[-1]


class Caller:
    """A connection of its own, and with it one worker for as long as that lives."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._who: Any = self._channel.unary_unary(WHO)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._load)
        self.answers: Counter[int] = Counter()
        self.failures = 0
        self.worker = self.call()

    def call(self) -> int:
        """One RPC: the worker that has answered it."""
        worker = int(self._who(b"", timeout=LIMIT_SECONDS))
        self.answers[worker] += 1
        return worker

    @property
    def lost(self) -> bool:
        """Whether its worker is gone: noticed in a call, or between two, which goes elsewhere."""
        return bool(self.failures) or len(self.answers) > 1

    def load(self) -> None:
        """Call without a pause until the worker is lost or `close`."""
        self._thread.start()

    def _load(self) -> None:
        while not self._ending.is_set() and not self.lost:
            try:
                self.call()
            except grpc.RpcError:
                self.failures += 1

    def close(self) -> None:
        """Stop calling."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(LIMIT_SECONDS)
        self._channel.close()


@contextmanager
def callers(port: int, workers: int) -> Iterator[list[Caller]]:
    """At least one caller for every worker. The kernel chooses: it is asked until all are had."""
    with ExitStack() as stack:
        made: list[Caller] = []

        def another() -> bool:
            caller = Caller(port)
            stack.callback(caller.close)
            made.append(caller)
            return len({caller.worker for caller in made}) == workers

        assert until(another)
        yield made


def handled(metrics: Metrics) -> int:
    """All RPCs that were handled without an error."""
    total = counts(metrics, "grpc_server_handled_total", "grpc_method", "grpc_code")
    assert set(total) <= {("Who", "OK")}
    return total["Who", "OK"]


@pytest.mark.parametrize("method", METHODS)
def test_every_worker_has_a_ring_and_all_calls_are_counted(seen: Observed, method: str) -> None:
    program, port = serve(seen, method, 3)
    assert seen.ring_pids() == sorted(ready(program))
    answered = 0
    with callers(port, 3) as made:
        for caller in made:
            answered += sum(caller.answers.values())
            for _ in range(CALLS):
                caller.call()
                answered += 1
    seen.await_count("grpc_server_handled_total", answered)
    assert program.stop() == 0
    metrics = seen.final()
    assert handled(metrics) == answered
    assert counts(metrics, "grpc_server_started_total", "grpc_method") == {("Who",): answered}
    assert is_whole(metrics)
    assert "pinchpoint: " not in program.err


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_killed_under_load_costs_the_others_nothing(seen: Observed, method: str) -> None:
    """Its own last RPCs may be lost on either side: one for each connection to it."""
    program, port = serve(seen, method, 3)
    with callers(port, 3) as made:
        victim = made[0].worker
        theirs = [caller for caller in made if caller.worker == victim]
        others = [caller for caller in made if caller.worker != victim]
        readings: list[tuple[float, float]] = []

        def look() -> None:
            metrics = seen.agent.scrape()
            readings.append(
                (
                    metrics.total("grpc_server_started_total"),
                    metrics.total("grpc_server_handled_total"),
                )
            )

        def has_called(caller: Caller, times: int) -> bool:
            look()
            return caller.answers.total() >= times

        for caller in made:
            caller.load()
        assert until(lambda: all(has_called(caller, CALLS) for caller in made))
        os.kill(victim, signal.SIGKILL)
        so_far = {caller: caller.answers.total() for caller in others}
        assert until(lambda: all(has_called(c, n + CALLS) for c, n in so_far.items()))
        assert until(lambda: all(caller.lost for caller in theirs))
        assert until(lambda: victim not in seen.ring_pids())
        look()
        assert not any(caller.lost for caller in others)
    assert readings == sorted(readings)
    assert all(later[1] >= earlier[1] for earlier, later in pairwise(readings))
    assert until(lambda: len(ready(program)) == 4)
    assert program.stop() == 0
    answered = sum(caller.answers.total() for caller in made)
    assert abs(handled(seen.final()) - answered) <= len(theirs)
    assert "pinchpoint: " not in program.err


def has_recorded(rings: Path, worker: int, rpcs: int) -> bool:
    """Whether so many RPCs are in the ring of a worker."""
    (ring,) = rings.glob(f"{worker}-*.ring")
    return len(contents(ring).requests()) == rpcs


@pytest.mark.parametrize("method", METHODS)
def test_restarts_lose_nothing_and_leave_nothing_behind(seen: Observed, method: str) -> None:
    program, port = serve(seen, method, 2)
    living = ready(program)
    answers: Counter[int] = Counter()
    for _ in range(RESTARTS):
        with callers(port, 2) as made:
            for caller in made:
                answers += caller.answers
        victim = living.pop(0)
        # What it has answered and not yet noted could not survive it.
        assert until(partial(has_recorded, seen.rings, victim, answers[victim]))
        living.append(replace(program, victim))
    assert until(lambda: seen.ring_pids() == sorted(living))
    metrics = seen.fresh()
    assert metrics.values("pinchpoint_rings") == [2]
    labels = {value for sample in metrics.samples for value in sample.labels.values()}
    assert not labels & {str(pid) for pid in ready(program)}
    seen.await_count("grpc_server_handled_total", answers.total())
    assert program.stop() == 0
    assert handled(seen.final()) == answers.total()
    assert not list(seen.rings.iterdir())
    assert "pinchpoint: " not in program.err


def test_without_an_agent_a_new_worker_removes_what_the_dead_have_left(tmp_path: Path) -> None:
    environment.needed()
    rings = tmp_path / "rings"
    rings.mkdir()
    with programs(tmp_path) as started:
        command = under_the_probe(rings, PYTHON, SERVERS / "prefork.py", "fork", unused_port(), 2)
        program = started.start(*command)
        assert until(lambda: len(ready(program)) == 2)
        living = ready(program)
        for _ in range(RESTARTS):
            killed = living.pop(0)
            living.append(replace(program, killed))
            # Whoever has just come up has swept what was old by then.
            assert ring_pids(rings) == sorted([*living, killed])
            for ring in rings.glob(f"{killed}-*"):
                old = ring.stat().st_mtime - 2 * DEAD_RING_KEPT_SECONDS
                os.utime(ring, (old, old))
