"""The targets of `scripts/fuzz` work, and the seeds get as far as the exposition."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.observations import Observation, Tick
from tests.fuzz import targets
from tests.fuzz.seeds import write_seeds


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of seeds for each target."""
    directory = tmp_path_factory.mktemp("seeds")
    write_seeds(directory)
    return directory


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """What pipelines are fed from now on, without ticks."""
    found: list[Observation] = []
    feed = Pipeline.feed

    def noted(self: Pipeline, observation: Observation) -> object:
        if not isinstance(observation.record, Tick):
            found.append(observation)
        return feed(self, observation)

    monkeypatch.setattr(Pipeline, "feed", noted)
    return found


@pytest.mark.parametrize("target", targets.TARGETS)
def test_every_seed_is_read_to_its_end(seeds: Path, fed: list[Observation], target: str) -> None:
    """Each file of the probe and of the agent has an opening, records and a closing."""
    files = sorted((seeds / target).iterdir())
    assert len(files) > 3
    for file in files:
        fed.clear()
        targets.TARGETS[target](file.read_bytes())
        names = [type(observation.record).__name__ for observation in fed]
        assert (names[0], names[-1]) == ("SourceOpened", "SourceClosed"), file


@pytest.mark.parametrize("target", targets.TARGETS)
@pytest.mark.parametrize("data", [b"", b"\0", b"PINCHRNG", b"PINCHREC", bytes(8192)])
def test_what_is_no_such_file_is_refused(fed: list[Observation], target: str, data: bytes) -> None:
    """Nothing of it is counted."""
    targets.TARGETS[target](data)
    assert fed == []
