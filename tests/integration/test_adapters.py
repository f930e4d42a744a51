"""The agent beside a server without a probe: its own metrics become series and a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.processes import ANY_PORT, PINCHPOINT, Program, Programs, programs
from tests.integration.scraping import Endpoint, endpoint_of
from tests.support.metrics_server import VllmLoad, metrics_server
from tests.support.waiting import until

pytestmark = pytest.mark.integration


def agent(started: Programs, directory: Path, url: str) -> tuple[Program, Endpoint]:
    """An agent that reads a vLLM and records."""
    configuration = directory / "pinchpoint.yaml"
    target = {"kind": "vllm", "url": url, "interval_seconds": 0.25}
    configuration.write_text(json.dumps({"adapters": [target]}))
    program = started.start(
        *PINCHPOINT,
        "agent",
        ANY_PORT,
        f"--config.file={configuration}",
        f"--ring-dir={directory / 'rings'}",
        f"--record={directory / 'run.rec'}",
    )
    return program, endpoint_of(program)


def primary(endpoint: Endpoint, what: str = "type") -> str:
    """What the verdict names first."""
    document = endpoint.verdict()
    return "" if document is None else str(document["primary"][what])


def test_a_queue_that_grows_is_named_and_replayed(tmp_path: Path) -> None:
    load = VllmLoad(running=4, finished=3)
    with metrics_server(load) as server, programs(tmp_path) as started:
        program, endpoint = agent(started, tmp_path, server.url)
        assert until(lambda: primary(endpoint) == "healthy")
        load.running, load.waiting = 64, 48
        assert until(lambda: primary(endpoint) == "queue_saturation")
        document = endpoint.verdict()
        scrape = endpoint.scrape()
        load.running, load.waiting = 4, 0
        assert until(lambda: primary(endpoint) == "healthy")
        assert program.stop() == 0
        replay = started.start(*PINCHPOINT, "replay", str(tmp_path / "run.rec"))
        assert replay.wait() == 0
    assert document is not None
    assert document["primary"]["whatif"]["p95_latency_reduction_ratio"] is None
    assert document["decomposition"] is None
    assert document["traffic"]["in_flight"] == 112
    assert scrape.values("pinchpoint_requests_in_flight") == [112.0]
    assert scrape.values("pinchpoint_requests_queued") == [48.0]
    assert scrape.values("pinchpoint_signal_available", signal="adapter/vllm") == [1.0]
    assert scrape.values("pinchpoint_served_cache_usage_ratio", model="llama") == [0.96]
    assert scrape.values("pinchpoint_served_requests_in_state", model="llama", state="waiting") == [
        48.0
    ]
    ended = scrape.total("pinchpoint_served_requests_total", model="llama", outcome="finished")
    seconds = scrape.total("pinchpoint_served_request_seconds_total", model="llama")
    queued = scrape.total("pinchpoint_served_stage_seconds_total", model="llama", stage="queue")
    assert ended > 0
    assert (seconds, queued) == (4 * ended, ended)
    told = [line for line in program.err.splitlines() if "queue_saturation" in line]
    assert any(line.split(": ", 1)[1] in replay.out for line in told), (program.err, replay.out)


def test_a_server_that_hangs_goes_and_comes_back(tmp_path: Path) -> None:
    load = VllmLoad(running=4, finished=3)
    with programs(tmp_path) as started:
        with metrics_server(load) as server:
            program, endpoint = agent(started, tmp_path, server.url)
            assert until(lambda: primary(endpoint) == "healthy")
            server.hang()
            program.says(r"(unknown: a serving process has said nothing)")
        gone = endpoint.scrape_when(lambda s: not s.values("pinchpoint_requests_in_flight"))
        load.restart()
        with metrics_server(load, server.port):
            assert until(lambda: primary(endpoint) == "healthy")
            back = endpoint.scrape()
        assert program.stop() == 0
    assert gone.values("pinchpoint_signal_available", signal="adapter/vllm") == [0.0]
    assert gone.values("pinchpoint_requests_in_flight") == []
    assert gone.total("pinchpoint_sampler_errors_total", sampler="adapter/vllm") >= 1
    assert back.values("pinchpoint_signal_available", signal="adapter/vllm") == [1.0]
    before, after = (s.total("pinchpoint_served_requests_total") for s in (gone, back))
    assert 0 < before <= after


def test_what_is_no_exposition_is_said_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    with (
        metrics_server(lambda: "<html>hello</html>") as server,
        programs(tmp_path) as started,
    ):
        server.content_type = "text/html"
        program, endpoint = agent(started, tmp_path, server.url)
        program.says(r"(vllm at http://\S+ answers with text/html, not with metrics)")
        scrape = endpoint.scrape_when(
            lambda s: s.total("pinchpoint_sampler_errors_total", sampler="adapter/vllm") >= 2
        )
        said = "no server is read: see the signal adapter/vllm"
        assert until(lambda: primary(endpoint, "summary") == said)
        assert program.stop() == 0
    assert scrape.values("pinchpoint_signal_available", signal="adapter/vllm") == [0.0]
    assert scrape.total("pinchpoint_build_info") == 1
    assert program.err.count("text/html") == 1
