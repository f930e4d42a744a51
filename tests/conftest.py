from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pinchpoint
from pinchpoint.probe import activate
from pinchpoint.probe.process import ProcessProbe


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
