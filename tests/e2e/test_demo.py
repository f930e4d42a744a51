"""`make demo` as a user runs it: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripts import ROOT
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.e2e

CGROUPS = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")
MARK = "PINCHPOINT_TEST_MARK"
DEMO_SECONDS = 300.0
PAUSE_SECONDS = 0.2


@dataclass
class Demo:
    """A running demo. What it starts inherits its mark, and its files are in `temporary`."""

    process: subprocess.Popen[bytes]
    mark: str
    output: Path
    temporary: Path
    results: Path

    def says(self, pattern: str) -> bool:
        """Wait until it says so; false when it has ended without."""

        def ask() -> bool:
            time.sleep(PAUSE_SECONDS)
            return bool(self.said(pattern)) or self.process.poll() is not None

        deadline = time.monotonic() + DEMO_SECONDS
        while not until(ask) and time.monotonic() < deadline:
            pass
        return bool(self.said(pattern))

    def said(self, pattern: str) -> re.Match[str] | None:
        """Whether it has said so."""
        return re.search(pattern, self.output.read_text(), re.MULTILINE)

    def document(self) -> dict[str, Any]:
        """What it wrote for programs."""
        document: dict[str, Any] = json.loads(self.results.read_text())
        return document


@pytest.fixture
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with its default faults."""
    directory = tmp_path_factory.mktemp("demo")  # short: there is a socket in it
    temporary = directory / "tmp"
    temporary.mkdir()
    mark = uuid.uuid4().hex
    output, results = directory / "output", directory / "results.json"
    arguments = ["-m", "examples.demo", "--plain", "--json", str(results)]
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, MARK: mark, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    yield Demo(process, mark, output, temporary, results)
    for pid in processes_of(mark):
        os.kill(pid, signal.SIGKILL)
    process.wait(LIMIT_SECONDS)


def processes_with(text: str) -> list[int]:
    """Processes whose command line or environment holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:  # gone, or somebody else's
                continue
            if text.encode() in known:
                found.append(int(entry.name))
    return found


def processes_of(mark: str) -> list[int]:
    """Processes that inherited a mark."""
    return processes_with(f"{MARK}={mark}")


def groups_of(process_id: int) -> list[Path]:
    """Control groups that a demo made, by their names."""
    return [
        Path(directory) / name
        for directory, names, _ in os.walk(CGROUPS)
        for name in names
        if re.fullmatch(rf"pinchpoint-.*-{process_id}", name)
    ]


def rings_of_nobody() -> set[Path]:
    """What is in shared memory although the program that made it is gone. Other programs on the
    machine may come and go there."""
    rings = SHARED_MEMORY.glob("pinchpoint*")
    return {path for path in rings if not processes_with(path.name)}


def assert_nothing_left(demo: Demo, rings_before: set[Path]) -> None:
    """No process, no control group, no file."""
    assert processes_of(demo.mark) == []
    assert groups_of(demo.process.pid) == []
    assert list(demo.temporary.iterdir()) == []
    assert until(lambda: rings_of_nobody() <= rings_before)


def test_both_faults_are_labelled_and_the_service_is_healthy_again(demo: Demo) -> None:
    """The demo's promise, with the label of each fault in time, and nothing left behind."""
    rings_before = rings_of_nobody()
    exit_code = demo.process.wait(DEMO_SECONDS)
    assert exit_code == 0, demo.output.read_text()
    document = demo.document()
    assert document["passed"]
    assert (document["failures"], document["false_labels"]) == ([], [])
    assert len(document["faults"]) == 2
    for outcome in document["faults"]:
        assert outcome["passed"]
        assert outcome["labelled_as"] == outcome["expected"]
        assert outcome["seconds_until_healthy"] is not None
        assert demo.said(f"labelled {outcome['expected']} after")
    assert document["client"]["codes"].keys() == {"OK"}
    assert document["client"]["dropped"] == 0
    assert document["mean_unattributed_ratio"] < 0.2
    assert_nothing_left(demo, rings_before)


def test_an_interrupt_in_the_middle_of_a_fault_cleans_up(demo: Demo) -> None:
    """Ctrl-C lifts the fault, ends everything and exits as a shell expects."""
    rings_before = rings_of_nobody()
    assert demo.says(r"injected \S+"), demo.output.read_text()
    assert len(processes_of(demo.mark)) > 3
    # Where no control group can be made the demo has another fault, and says so.
    assert bool(groups_of(demo.process.pid)) == bool(demo.said("injected cpu-quota"))
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(LIMIT_SECONDS) == 130
    assert "interrupted" in demo.document()["failures"]
    assert demo.said("interrupted")
    assert not demo.said("Traceback")
    assert_nothing_left(demo, rings_before)
