"""Scrapes of a real HTTP server, through the pipeline, and the same from a recording."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.pipeline import Pipeline
from pinchpoint.recording import Recording, Tee
from pinchpoint.schema.observations import Observation, SourceClosed, SourceOpened
from pinchpoint.schema.samples import ServedSample, ServerSample
from pinchpoint.schema.wire import SAMPLE_VALUE_MAX
from pinchpoint.sidecar.adapters import FIRST_SOURCE, MODELS_MAX, Adapters
from pinchpoint.sidecar.source import Arrival
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
        self.target = replace(target, **options)
        self.adapters = Adapters([self.target], self.said.append)

    def feed(self, arrivals: Iterable[Arrival]) -> None:
        for arrival in arrivals:
            self.seen.append(arrival.observation)
            self.pipeline.feed(arrival.observation)
            if self.tee:
                self.tee.write(arrival.frame)

    def look(self) -> Snapshot:
        self.feed(self.adapters.poll())
        return self.pipeline.snapshot(AgentFacts())

    def look_until(self, enough: Callable[[Snapshot], object]) -> Snapshot:
        snapshots: list[Snapshot] = []

        def ask() -> object:
            snapshots[:] = [self.look()]
            return enough(snapshots[0])

        assert until(ask), self.said
        return snapshots[0]

    def look_until_more_finished(self) -> Snapshot:
        before = finished(self.look())
        return self.look_until(lambda s: finished(s) > before)

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
        watching.feed(watching.adapters.change((), 0))
        snapshot = watching.pipeline.snapshot(AgentFacts())
    assert snapshot.signals == ()
    assert snapshot.gauges == {}


def test_a_change_disturbs_only_what_it_changes() -> None:
    load = VllmLoad(running=8, finished=2)
    with metrics_server(load) as server, watch(server.url) as watching:
        kept = watching.target
        other = replace(kept, kind="tgi")
        for targets in ((kept, other), (kept,), (replace(other, concurrency=4), kept)):
            watching.look_until_more_finished()
            watching.feed(watching.adapters.change(targets, 0))
            snapshot = watching.look_until_more_finished()
            assert gauge(snapshot, "ServedSample", "llama", "running") == 8
        watching.look_until(lambda s: len(s.signals) == 2)
    opened = [o.source for o in watching.seen if isinstance(o.record, SourceOpened)]
    closed = [o.source for o in watching.seen if isinstance(o.record, SourceClosed)]
    assert opened == [FIRST_SOURCE + 1]
    assert closed == [FIRST_SOURCE + 2]
    assert {o.source for o in watching.seen} == {FIRST_SOURCE + n for n in (0, 1, 2, 4)}


def threads() -> list[str]:
    """The names of all threads, those among them that read servers."""
    return [thread.name for thread in threading.enumerate()]


def refuse_threads(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """No thread starts for servers of a kind."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == f"pinchpoint-{kind}":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_change_that_fails_changes_nothing_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with metrics_server(VllmLoad(running=8, finished=2)) as server, watch(server.url) as watching:
        watching.look_until_more_finished()
        targets = [replace(watching.target, kind=kind) for kind in ("sglang", "tgi")]
        with monkeypatch.context() as patched:
            refuse_threads(patched, "tgi")
            with pytest.raises(RuntimeError):
                watching.feed(watching.adapters.change(targets, 0))
        assert until(lambda: "pinchpoint-sglang" not in threads())
        after = watching.look_until_more_finished()
        assert [signal.name for signal in after.signals] == [SIGNAL]
        watching.feed(watching.adapters.change(targets, 0))
        watching.look_until(
            lambda s: {x.name for x in s.signals} == {"adapter/sglang", "adapter/tgi"}
        )


def test_what_cannot_begin_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, "tgi")
    target = AdapterTarget("triton", "http://127.0.0.1:9/metrics", interval_seconds=0.02)
    with pytest.raises(RuntimeError):
        Adapters([target, replace(target, kind="tgi")], lambda _: None)
    assert until(lambda: "pinchpoint-triton" not in threads())


def test_a_sum_that_is_no_reading_is_absent_and_the_recording_sound(tmp_path: Path) -> None:
    path = tmp_path / "run.rec"
    huge = SAMPLE_VALUE_MAX * 0.75
    others = [f"m{number:02}" for number in range(MODELS_MAX + 1)]
    series = [
        'vllm:num_requests_running{model_name="a"} 3',
        *(f'vllm:num_requests_running{{model_name="{name}"}} {huge}' for name in others),
        *(f'vllm:num_requests_waiting{{model_name="a",engine="{n}"}} {huge}' for n in range(2)),
    ]
    body = "".join(f"{line}\n" for line in series)
    with metrics_server(lambda: body) as server, watch(server.url, path) as watching:
        snapshot = watching.look_until(lambda s: gauge(s, "ServedSample", "a", "running"))
    assert gauge(snapshot, "ServedSample", "a", "waiting") is None
    assert gauge(snapshot, "ServedSample", "m00", "running") == huge
    assert gauge(snapshot, "ServedSample", "_OTHER", "running") is None
    assert gauge(snapshot, "ServerSample", "", "in_flight") is None
    assert list(Recording(path)) == watching.seen


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
