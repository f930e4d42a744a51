from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinchpoint.probe.switch import Switch


@pytest.mark.parametrize(
    ("name", "off"),
    [("disable", True), ("disable-77", True), ("disable-7", False), ("disabled", False)],
)
def test_a_file_switches_all_processes_off_or_the_one_it_names(
    tmp_path: Path, name: str, off: bool
) -> None:
    """Other names and other processes are not meant."""
    switch = Switch(tmp_path, 77)
    assert not switch.is_off()
    path = tmp_path / name
    path.touch()
    assert switch.is_off() is off
    path.unlink()
    assert not switch.is_off()


def test_what_the_file_is_does_not_matter(tmp_path: Path) -> None:
    """An operator in a hurry may make a directory, or a link to nothing."""
    (tmp_path / "disable-1").mkdir()
    (tmp_path / "disable-2").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "disable-3")
    assert all(Switch(tmp_path, process_id).is_off() for process_id in (1, 2, 3))


def test_a_directory_that_is_gone_does_not_switch_off(tmp_path: Path) -> None:
    """Somebody tidied up; that is no order."""
    assert not Switch(tmp_path / "gone", 1).is_off()
