from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from pinchpoint.schema.samples import HostSample
from pinchpoint.schema.wire import sample_fields
from pinchpoint.sidecar.host import Host, OwnCosts


def test_the_machine_is_read_whole() -> None:
    """Nothing is absent on a machine like this, and nothing is said."""
    said: list[str] = []
    sample = Host(said.append).read(7)
    assert sample.time_ns == 7
    assert [f for f in sample_fields(HostSample) if getattr(sample, f) is None] == []
    assert sample.cpus == os.cpu_count()
    assert said == []


@pytest.mark.parametrize("stat", [None, "", "cpu x\n", f"cpu {'9' * 400} 1 1 1 1 1 1 1 1 1\n"])
def test_what_cannot_be_read_is_absent_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stat: str | None
) -> None:
    """A /proc that makes no sense ends neither the agent nor the other readings."""
    if stat is not None:
        (tmp_path / "stat").write_text(stat)
    (tmp_path / "meminfo").write_text("")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    said: list[str] = []
    host = Host(said.append)
    for _ in range(3):
        sample = host.read(7)
    assert (sample.busy_ns, sample.memory_total_bytes) == (None, None)
    assert sample.load_1 is not None
    assert [line.split(" cannot")[0] for line in said] == [
        "the machine's CPU time",
        "the machine's memory",
    ]


def test_own_costs_are_those_of_this_process() -> None:
    """Memory that cannot be read is absent."""
    costs = OwnCosts()
    assert costs.cpu_seconds() > 0
    resident = costs.resident_bytes()
    assert resident is not None
    assert resident > 1 << 20
