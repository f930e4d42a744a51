"""The agent's benchmark measures what it says: every record is counted, and the server that it
plays is healthy until it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.agent.hour import FAULT, Replay
from bench.agent.traffic import Load
from bench.report import replace_between_markers

LOAD = Load(per_second=200, workers=2, stages=1)


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    replay = Replay(tmp_path, LOAD)
    yield replay
    replay.close()


def run(replay: Replay, seconds: int) -> str:
    for _ in range(seconds):
        replay.second()
    assert replay.snapshot is not None
    return replay.snapshot.verdict.primary


def test_every_request_that_is_written_is_counted(replay: Replay) -> None:
    run(replay, 15)
    assert replay.snapshot is not None
    (method,) = replay.snapshot.methods
    assert method.handled["OK"] == replay.traffic.requests > 14 * LOAD.per_second
    (model,), (stage,) = replay.snapshot.models, replay.snapshot.named_stages
    assert model.forward.count == stage.wall.count == replay.traffic.requests
    assert sum(replay.snapshot.lost.values()) == 0


def test_the_server_is_healthy_until_its_preprocessing_takes_longer(replay: Replay) -> None:
    assert run(replay, 20) == "healthy"
    replay.traffic.preprocess = FAULT
    assert run(replay, 20) == "preprocess_cpu"


def test_tables_replace_what_is_between_their_markers_only(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb <!-- y: begin -->")
    replace_between_markers(path, "x", "new")
    assert path.read_text() == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb <!-- y: begin -->"
