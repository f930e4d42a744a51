"""Scrapes of a real HTTP server, through the pipeline, and the same from a recording."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.pipeline import Pipeline
from pinchpoint.recording import Recording, Tee
from pinchpoint.schema.observations import Observation, SourceClosed, SourceOpened
from pinchpoint.schema.samples import ServedSample, ServerSample
from pinchpoint.sidecar.adapters import FIRST_SOURCE, MODELS_MAX, Adapters
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.metrics_server import VllmLoad, metrics_server
from tests.support.waiting import LIMIT_SECONDS, until

SIGNAL = "adapter/vllm"


class Watch:
    """Adapters, and what the pipeline makes of them."""

    def __init__(self, url: str, recording: Path | None = None, **options: Any) -> None:
        self.said: list[str] = []
        self.seen: list[Observation] = []
        self.pipeline = Pipeline()
        self.tee = Tee(recording, self.said.append) if recording else None
        target = AdapterTarget("vllm", url, interval_seconds=0.02, timeout_seconds=LIMIT_SECONDS)
        self.adapters = Adapters([replace(target, **options)], self.said.append)

    def look(self) -> Snapshot:
        for arrival in self.adapters.poll():
            self.seen.append(arrival.observation)
            self.pipeline.feed(arrival.observation)
            if self.tee:
                self.tee.write(arrival.frame)
        return self.pipeline.snapshot(AgentFacts())

    def look_until(self, enough: Callable[[Snapshot], object]) -> Snapshot:
        snapshots: list[Snapshot] = []

        def ask() -> object:
            snapshots[:] = [self.look()]
            return enough(snapshots[0])

        assert until(ask), self.said
        return snapshots[0]

    def available(self) -> tuple[bool, str] | None:
        found = [(s.available, s.reason) for s in self.look().signals if s.name == SIGNAL]
        return found[0] if found else None


@contextlib.contextmanager
def watch(url: str, recording: Path | None = None, **options: Any) -> Iterator[Watch]:
    watching = Watch(url, recording, **options)
    try:
        yield watching
    finally:
        watching.adapters.close()
        if watching.tee:
            watching.tee.close()


def gauge(snapshot: Snapshot, sample: str, name: str, field: str) -> float | None:
    return snapshot.gauges.get((sample, name, field))


def finished(snapshot: Snapshot) -> float:
    return snapshot.counters.get(("ServedSample", "llama", "finished"), 0.0)


def test_a_servers_own_numbers_become_gauges_and_counters() -> None:
    load = VllmLoad(running=8, waiting=3, finished=2)
    with metrics_server(load) as server, watch(server.url, concurrency=16) as watching:
        snapshot = watching.look_until(lambda s: finished(s) >= 10)
    assert gauge(snapshot, "ServedSample", "llama", "running") == 8
    assert gauge(snapshot, "ServedSample", "llama", "cache_usage_ratio") == 0.96
    assert gauge(snapshot, "ServerSample", "", "in_flight") == 11
    assert gauge(snapshot, "ServerSample", "", "queued") == 3
    assert gauge(snapshot, "ServerSample", "", "workers") == 16
    assert gauge(snapshot, "ServerSample", "", "workers_busy") == 8
    assert snapshot.counters["ServedSample", "llama", "request_seconds"] == 4 * finished(snapshot)
    assert [(s.available, s.reason) for s in snapshot.signals] == [(True, "")]


def test_counters_go_on_when_the_server_restarts() -> None:
    load = VllmLoad(finished=2)
    with metrics_server(load) as server, watch(server.url) as watching:
        before = finished(watching.look_until(lambda s: finished(s) >= 10))
        load.restart()
        seen = [finished(watching.look_until(lambda s: finished(s) > before)) for _ in range(3)]
        after = finished(watching.look_until(lambda s: finished(s) >= before + 20))
    assert before < seen[0] <= seen[1] <= seen[2] <= after


def test_a_server_that_goes_leaves_its_counters_and_takes_its_gauges() -> None:
    load = VllmLoad(running=8, finished=2)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(metrics_server(load))
        watching = stack.enter_context(watch(server.url))
        before = finished(watching.look_until(lambda s: finished(s) >= 10))
        server.close()
        gone = watching.look_until(lambda s: gauge(s, "ServedSample", "llama", "running") is None)
        assert finished(gone) >= before
        assert watching.available() == (False, "refuses connections: nothing listens there")
        stack.enter_context(metrics_server(load, server.port))
        again = watching.look_until(lambda s: finished(s) >= finished(gone) + 10)
    assert gauge(again, "ServedSample", "llama", "running") == 8
    sources = [o.source for o in watching.seen if isinstance(o.record, SourceOpened)]
    assert sources == [FIRST_SOURCE + 1, FIRST_SOURCE + 1]


def test_a_server_that_hangs_stays_and_its_scrapes_are_errors() -> None:
    with metrics_server(VllmLoad(running=8)) as server:
        with watch(server.url, timeout_seconds=0.1) as watching:
            watching.look_until(lambda s: gauge(s, "ServedSample", "llama", "running"))
            server.hang()
            snapshot = watching.look_until(
                lambda s: s.counters.get(("SamplerSample", SIGNAL, "errors"), 0.0) >= 2
            )
            server.go_on()
        assert gauge(snapshot, "ServedSample", "llama", "running") == 8
        assert not any(isinstance(o.record, SourceClosed) for o in watching.seen)
        assert set(watching.said) == {
            f"vllm at {server.url} does not answer within 0.1 s; it is read as soon as it answers "
            "with its metrics"
        }


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("text/html", "<html></html>", "answers with text/html, not with metrics"),
        ("text/plain", "", "has none of the metrics of vllm"),
        ("text/plain", "tgi_queue_size 3\n", "has none of the metrics of vllm"),
        ("text/plain", "vllm:num_requests_running{ 3\n", "sends metrics that cannot be parsed"),
        ("text/plain", "x 1\n" * 3_000_000, "answers with more than 8 MiB"),
    ],
)
def test_what_is_not_the_servers_metrics_is_said_once(
    content_type: str, body: str, reason: str
) -> None:
    with metrics_server(lambda: body) as server:
        server.content_type = content_type
        with watch(server.url) as watching:
            snapshot = watching.look_until(
                lambda s: s.counters.get(("SamplerSample", SIGNAL, "errors"), 0.0) >= 3
            )
            assert watching.available() == (False, reason)
    assert len(watching.said) == 1
    assert reason in watching.said[0]
    assert not any(key[0] in ("ServedSample", "ServerSample") for key in snapshot.gauges)


def test_a_server_that_has_not_served_yet_is_there() -> None:
    body = "# TYPE vllm:num_requests_running gauge\n"
    with metrics_server(lambda: body) as server, watch(server.url) as watching:
        watching.look_until(lambda s: s.signals)
        assert watching.available() == (True, "")
        assert watching.said == []


def test_models_beyond_the_cap_are_one() -> None:
    body = "".join(
        f'vllm:num_requests_running{{model_name="m{number:03}"}} 1\n' for number in range(100)
    )
    with metrics_server(lambda: body) as server, watch(server.url) as watching:
        snapshot = watching.look_until(lambda s: gauge(s, "ServedSample", "_OTHER", "running"))
    models = {key[1]: value for key, value in snapshot.gauges.items() if key[2] == "running"}
    assert len(models) == MODELS_MAX + 1
    assert models["_OTHER"] == 100 - MODELS_MAX


def test_an_end_takes_gauges_and_signals_away() -> None:
    with metrics_server(VllmLoad(running=8)) as server, watch(server.url) as watching:
        watching.look_until(lambda s: gauge(s, "ServedSample", "llama", "running"))
        for arrival in watching.adapters.end(0):
            watching.pipeline.feed(arrival.observation)
        snapshot = watching.pipeline.snapshot(AgentFacts())
    assert snapshot.signals == ()
    assert snapshot.gauges == {}


def test_a_recording_holds_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "run.rec"
    load = VllmLoad(running=8, finished=2)
    with metrics_server(load) as server, watch(server.url, path) as watching:
        watching.look_until(lambda s: finished(s) >= 10)
    replayed = list(Recording(path))
    assert replayed == watching.seen
    assert any(isinstance(o.record, ServedSample) for o in replayed)
    assert any(isinstance(o.record, ServerSample) for o in replayed)


def test_a_server_that_never_was_there_is_no_source() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with watch(f"http://127.0.0.1:{port}/metrics") as watching:
        assert until(lambda: watching.available() is not None)
    assert {o.source for o in watching.seen} == {FIRST_SOURCE}
