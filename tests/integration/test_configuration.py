"""The agent's configuration as an operator meets it: files, variables, signals, HTTP, terminals."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.observations import NameKind
from tests.integration.processes import ANY_PORT, PINCHPOINT, Program, Programs, programs
from tests.integration.scraping import TIMEOUT_SECONDS, Endpoint, Metrics, endpoint_of
from tests.support.ring_content import SLOT_COUNTS, write_request
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SERVER = "adapters: [{kind: vllm, url: http://127.0.0.1:9/metrics}]\n"
SUCCESSFUL = "pinchpoint_config_last_reload_successful"
SUCCESS_SECONDS = "pinchpoint_config_last_reload_success_timestamp_seconds"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    """Programs that end with the test."""
    with programs(tmp_path) as programs_of_the_test:
        yield programs_of_the_test


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration for an agent that may be reloaded."""
    (tmp_path / "rings").mkdir()
    path = tmp_path / "pinchpoint.yaml"
    path.write_text(configured(tmp_path))
    return path


def configured(directory: Path, more: str = "") -> str:
    """The text of a configuration."""
    web = '{listen_address: "127.0.0.1:0", enable_lifecycle: true}'
    return f"ring_directory: {directory / 'rings'}\nweb: {web}\n{more}"


def posted(http: Endpoint, path: str) -> tuple[int, str]:
    """Status and body of a POST."""
    request = urllib.request.Request(http.url + path, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Agent:
    """A running agent that is configured by a file."""

    def __init__(self, started: Programs, file: Path) -> None:
        self.file = file
        self.program: Program = started.start(*PINCHPOINT, "agent", f"--config.file={file}")
        self.http: Endpoint = endpoint_of(self.program)
        self.scrape()

    def scrape(self) -> tuple[float, float]:
        """Whether the last reload was successful, and when the last success was."""
        metrics = self.http.scrape_when(lambda scrape: scrape.values(SUCCESSFUL))
        return metrics.total(SUCCESSFUL), metrics.total(SUCCESS_SECONDS)

    def post(self, path: str) -> tuple[int, str]:
        """Status and body."""
        return posted(self.http, path)

    def hang_up(self, sentence: str) -> None:
        """SIGHUP, and what is said of it."""
        self.program.process.send_signal(signal.SIGHUP)
        self.program.says(rf"^pinchpoint: ({sentence})")


def test_a_file_configures_the_agent(started: Programs, file: Path, tmp_path: Path) -> None:
    agent = Agent(started, file)
    assert f"rings in {tmp_path / 'rings'}" in agent.program.err
    successful, success_seconds = agent.scrape()
    assert successful == 1
    assert success_seconds == pytest.approx(time.time(), abs=3600)


def test_the_objective_is_a_bound_of_the_latency(
    started: Programs, file: Path, tmp_path: Path
) -> None:
    """From the file to the exposition."""
    more = "histograms: {latency_bounds_seconds: [0.1, 1]}\nobjective: {latency_seconds: 0.3}\n"
    file.write_text(configured(tmp_path, more))
    agent = Agent(started, file)
    ring = RingWriter(tmp_path / "rings", SLOT_COUNTS)
    try:
        write_request(ring, ring.intern(NameKind.METHOD, "/pkg.Svc/Do"))
        name = "pinchpoint_request_seconds_bucket"
        metrics = agent.http.scrape_when(lambda scrape: scrape.values(name))
        bounds = [s.labels["le"] for s in metrics.samples if s.name == name]
        assert bounds == ["0.1", "0.3", "1.0", "+Inf"]
    finally:
        ring.close()


def test_a_limit_is_kept(started: Programs, file: Path, tmp_path: Path) -> None:
    """The third method is folded where two have room."""
    file.write_text(configured(tmp_path, "limits: {methods: 2}\n"))
    agent = Agent(started, file)
    ring = RingWriter(tmp_path / "rings", SLOT_COUNTS)
    try:
        for name in ("A", "B", "C"):
            write_request(ring, ring.intern(NameKind.METHOD, f"/pkg.Svc/{name}"))
        handled = "grpc_server_handled_total"
        metrics = agent.http.scrape_when(lambda scrape: scrape.total(handled) == 3)
        methods = {s.labels["grpc_method"] for s in metrics.samples if s.name == handled}
        assert methods == {"A", "B", "_OTHER"}
    finally:
        ring.close()


def test_an_agent_says_every_mistake_and_exits_with_6(started: Programs, file: Path) -> None:
    file.write_text("limits: {methods: many}\nadapters: 3\n")
    program = started.start(*PINCHPOINT, "agent", f"--config.file={file}", "--web.listen-address=x")
    assert program.wait() == 6
    assert [line.split(" is ")[0] for line in program.err.splitlines()] == [
        f"pinchpoint: {file}:1: limits.methods",
        f"pinchpoint: {file}:2: adapters",
        "pinchpoint: --web.listen-address",
    ]


# Reloading


def test_a_hangup_reloads_the_file(started: Programs, file: Path, tmp_path: Path) -> None:
    agent = Agent(started, file)
    _, before = agent.scrape()
    file.write_text(configured(tmp_path, SERVER))
    agent.hang_up("the configuration is reloaded: adapters")
    assert until(lambda: agent.scrape()[1] != before)
    assert agent.scrape()[0] == 1


def test_servers_to_scrape_come_and_go_with_a_reload(
    started: Programs, file: Path, tmp_path: Path
) -> None:
    agent = Agent(started, file)

    def signals(metrics: Metrics) -> list[float]:
        return metrics.values("pinchpoint_signal_available", signal="adapter/vllm")

    file.write_text(configured(tmp_path, SERVER))
    assert agent.post("/-/reload")[0] == 200
    agent.program.says(r"^pinchpoint: (vllm at http://127\.0\.0\.1:9/metrics refuses connections)")
    assert signals(agent.http.scrape_when(signals)) == [0]

    file.write_text(configured(tmp_path))
    assert agent.post("/-/reload")[0] == 200
    gone = agent.http.scrape_when(lambda metrics: not signals(metrics))
    assert signals(gone) == []


def test_a_post_reloads_and_answers_how_it_went(
    started: Programs, file: Path, tmp_path: Path
) -> None:
    agent = Agent(started, file)
    file.write_text(configured(tmp_path, "limits: {methods: 3}\n"))
    assert agent.post("/-/reload")[0] == 200
    assert "limits.methods: in force after a restart" in agent.program.err

    file.write_text(configured(tmp_path, "limits: {methods: many}\n"))
    status, text = agent.post("/-/reload")
    assert status == 500
    assert f'{file}:3: limits.methods is "many"' in text
    assert until(lambda: agent.scrape()[0] == 0)

    file.write_text(configured(tmp_path))
    assert agent.post("/-/reload")[0] == 200
    assert until(lambda: agent.scrape()[0] == 1)


def test_a_bad_file_does_not_end_the_agent(started: Programs, file: Path) -> None:
    agent = Agent(started, file)
    _, before = agent.scrape()
    file.write_bytes(b"\xff\x00[[[[")
    agent.hang_up("the configuration is not reloaded, what held before holds on:")
    assert until(lambda: agent.scrape()[0] == 0)
    assert agent.scrape()[1] == before
    file.unlink()
    agent.hang_up(rf"{file} cannot be read")
    assert agent.http.get("/-/healthy")[0] == 200
    assert agent.program.stop() == 0


def test_a_hangup_without_a_file_is_answered(started: Programs, tmp_path: Path) -> None:
    program = started.start(
        *PINCHPOINT, "agent", ANY_PORT, "--web.enable-lifecycle", f"--ring-dir={tmp_path}"
    )
    http = endpoint_of(program)
    program.process.send_signal(signal.SIGHUP)
    sentence = "nothing to reload: the agent was started without --config.file"
    program.says(f"^pinchpoint: ({sentence})")
    assert posted(http, "/-/reload") == (500, f"the configuration was not reloaded: {sentence}\n")
    assert http.get("/-/healthy")[0] == 200
    assert program.stop() == 0


AT_TERMINAL = """
import os, signal, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(terminal, descriptor)
os.close(terminal)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "nohup" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
"""Makes a terminal its own, as a login shell does, and becomes a Python program."""


def at_lost_terminal(started: Programs, file: Path, how: str) -> tuple[Program, Endpoint]:
    """An agent whose terminal has gone away while it served."""
    ours, theirs = os.openpty()
    arguments = [os.ttyname(theirs), how, *PINCHPOINT[1:], "agent", f"--config.file={file}"]
    program = started.python("-c", AT_TERMINAL, *arguments)
    said = b""
    while not (found := re.search(rb"serving metrics on (http://\S+)/metrics", said)):
        said += os.read(ours, 4096)
    os.close(theirs)
    os.close(ours)
    return program, Endpoint(found[1].decode())


def test_a_terminal_that_goes_away_ends_the_agent(started: Programs, file: Path) -> None:
    """As it ends any program that is run by hand."""
    program, _ = at_lost_terminal(started, file, "by hand")
    assert program.wait() == 0


def test_an_agent_under_nohup_outlives_its_terminal_and_reloads(
    started: Programs, file: Path
) -> None:
    program, http = at_lost_terminal(started, file, "nohup")
    file.write_text("nonsense")
    program.process.send_signal(signal.SIGHUP)
    metrics = http.scrape_when(lambda scrape: scrape.values(SUCCESSFUL) == [0])
    assert metrics.values(SUCCESSFUL) == [0]


# `pinchpoint run`


def test_run_hands_the_configuration_to_its_agent(
    started: Programs, file: Path, tmp_path: Path
) -> None:
    """The rings are where `run` put them, whatever the file says."""
    program = started.start(*PINCHPOINT, "run", f"--config.file={file}", "--", "sleep", "600")
    http = endpoint_of(program)
    assert f"rings in {tmp_path / 'rings'}" not in program.err
    request = urllib.request.Request(f"{http.url}/-/reload", method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        assert response.status == 200


def test_run_starts_nothing_with_a_wrong_configuration(
    started: Programs, file: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "started"
    file.write_text("limits: {methods: many}")
    program = started.start(*PINCHPOINT, "run", f"--config.file={file}", "--", "touch", str(marker))
    assert program.wait() == 6
    assert f"{file}:1: limits.methods" in program.err
    assert not marker.exists()
