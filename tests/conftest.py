from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pinchpoint
from pinchpoint.probe import activate


@pytest.fixture
def ring_dir(tmp_path: Path) -> Path:
    """An empty directory for rings."""
    directory = tmp_path / "rings"
    directory.mkdir()
    return directory


@pytest.fixture
def probe(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[activate.Probe]:
    """The probe, installed in this process; its ring goes to `ring_dir`."""
    monkeypatch.setenv(activate.RING_DIR, str(ring_dir))
    monkeypatch.delenv(activate.DISABLE, raising=False)
    assert pinchpoint.install()
    installed = activate._Installed.probe
    assert installed is not None
    yield installed
    pinchpoint.uninstall()
