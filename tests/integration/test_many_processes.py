"""Any number of workers, restarts and floods of names are one truth at the agent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.samples import Sample

from pinchpoint.pipeline.caps import Caps
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.observations import NameKind
from tests.integration.processes import ANY_PORT, PINCHPOINT, programs
from tests.integration.scraping import Endpoint, Metrics, endpoint_of
from tests.support.ring_content import write_request
from tests.support.scripts import ECHO_SERVER, Script, running

pytestmark = pytest.mark.integration

CALL_SECONDS = 20.0
WORKERS = 3
ROUNDS = 3
CALLS = 40

SERVER = (
    ECHO_SERVER
    + """
pinchpoint.install()
server, port = echo_server()
say(port)
sys.stdin.readline()
server.stop(None).wait()
"""
)

NAMES = 100_000
NAMES_PER_RING = 12_500
RESIDENT_MAX_BYTES = 80 * 2**20
"""What the agent may take at its busiest (DESIGN section 4 and the benchmark of the agent)."""


@contextmanager
def agent_of(ring_dir: Path, tmp_path: Path) -> Iterator[Endpoint]:
    """A running agent that has looked at the directory."""
    with programs(tmp_path) as started:
        agent = endpoint_of(
            started.start(*PINCHPOINT, "agent", ANY_PORT, "--ring-dir", str(ring_dir))
        )
        agent.scrape_when(lambda found: found.samples)
        yield agent


class Watch:
    """Scrapes without a pause, and notes every counter that falls."""

    def __init__(self, agent: Endpoint) -> None:
        self.fallen: list[tuple[str, float, float]] = []
        self.scrapes = 0
        self._agent = agent
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for family in self._agent.scrape().families:
                if family.type in ("counter", "histogram"):
                    for sample in family.samples:
                        self._compare(sample)
            self.scrapes += 1

    def _compare(self, sample: Sample) -> None:
        key = sample.name, tuple(sorted(sample.labels.items()))
        before = self._last.get(key, 0.0)
        if sample.value < before:
            self.fallen.append((f"{sample.name}{sample.labels}", before, sample.value))
        self._last[key] = sample.value


def call(server: Script) -> None:
    """Calls to a server, all answered."""
    with grpc.insecure_channel(f"127.0.0.1:{server.line()}") as channel:
        echo: Any = channel.unary_unary("/test.Service/Echo")
        for _ in range(CALLS):
            assert echo(b"hello", timeout=CALL_SECONDS, wait_for_ready=True) == b"hello"


def test_rolling_deaths_lose_no_count_and_reset_none(ring_dir: Path, tmp_path: Path) -> None:
    """Workers are killed one after the other, each replaced, while every counter is watched."""
    with ExitStack() as stack:
        agent = stack.enter_context(agent_of(ring_dir, tmp_path))
        watch = stack.enter_context(Watch(agent))
        workers: list[Script] = []
        for _ in range(WORKERS * ROUNDS):
            if len(workers) == WORKERS:
                oldest = workers.pop(0)
                oldest.process.kill()
                oldest.process.wait()
            workers.append(stack.enter_context(running(SERVER, ring_dir)))
            call(workers[-1])
        total = WORKERS * ROUNDS * CALLS
        found = agent.scrape_when(lambda found: handled(found) == total)
        assert handled(found) == total
        alive = agent.scrape_when(lambda found: found.total("pinchpoint_rings") == WORKERS)
        assert alive.total("pinchpoint_rings") == WORKERS
        assert alive.total("pinchpoint_requests_in_flight") == 0
        assert alive.total("grpc_server_started_total") == total
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
        empty = agent.scrape_when(lambda found: found.total("pinchpoint_rings") == 0)
        assert handled(empty) == total
        # What is now has no value when nobody is there to have it.
        assert empty.values("pinchpoint_process_threads") == []
    assert watch.scrapes > WORKERS
    assert watch.fallen == []


def handled(found: Metrics) -> float:
    return found.total("grpc_server_handled_total", grpc_method="Echo")


def test_a_flood_of_names_stays_within_the_cap(ring_dir: Path, tmp_path: Path) -> None:
    """A hundred thousand method names: no request is lost, and neither series nor memory grow."""
    ring_dir.mkdir(parents=True, exist_ok=True)
    with agent_of(ring_dir, tmp_path) as agent:
        for first in range(0, NAMES, NAMES_PER_RING):
            ring = RingWriter(ring_dir, (16_384, 16, 16_384))
            for number in range(first, first + NAMES_PER_RING):
                write_request(ring, ring.intern(NameKind.METHOD, f"/flood.Service/M{number}"))
            ring.close()
            expected = first + NAMES_PER_RING
            found = agent.scrape_when(partial(has_counted, expected))
            assert requests(found) == expected
    assert len(found.samples) <= Caps().series
    assert found.total("pinchpoint_names_folded_total", kind="methods") > 0
    other = found.total("grpc_server_handled_total", grpc_method="_OTHER")
    assert NAMES - Caps().methods <= other < NAMES
    assert found.total("pinchpoint_ring_lost_records_total") == 0
    assert found.total("pinchpoint_agent_resident_memory_bytes") < RESIDENT_MAX_BYTES


def has_counted(expected: int, found: Metrics) -> bool:
    return requests(found) == expected


def requests(found: Metrics) -> float:
    return found.total("grpc_server_handled_total", grpc_service="flood.Service") + found.total(
        "grpc_server_handled_total", grpc_service="_OTHER"
    )
