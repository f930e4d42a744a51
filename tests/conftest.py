from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import pinchpoint
from pinchpoint.probe import activate
from pinchpoint.probe.process import ProcessProbe

# The same examples everywhere and every time; how long one takes is no property.
settings.register_profile("pinchpoint", deadline=None, derandomize=True, database=None)
settings.load_profile("pinchpoint")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden instead of comparing"
    )


@pytest.fixture
def ring_dir(tmp_path: Path) -> Path:
    """An empty directory for rings."""
    directory = tmp_path / "rings"
    directory.mkdir()
    return directory


@pytest.fixture
def probe(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessProbe]:
    """The probe, installed in this process; its ring goes to `ring_dir`."""
    monkeypatch.setenv(activate.RING_DIR, str(ring_dir))
    monkeypatch.delenv(activate.DISABLE, raising=False)
    assert pinchpoint.install()
    activation = activate._Installed.activation
    assert activation is not None
    yield activation._needed()
    pinchpoint.uninstall()
