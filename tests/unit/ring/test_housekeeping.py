from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pinchpoint.ring.housekeeping import (
    DEAD_RING_KEPT_SECONDS,
    is_dead,
    prepare_directory,
    sweep,
)
from pinchpoint.ring.writer import RingWriter

SMALL = (16, 8, 8)


def make_old(path: Path) -> None:
    """As if nothing had touched it for longer than dead rings are kept."""
    then = time.time() - DEAD_RING_KEPT_SECONDS - 60
    os.utime(path, (then, then))


def dead_ring(directory: Path) -> Path:
    writer = RingWriter(directory, SMALL)
    writer.close()
    return writer.path


def test_an_old_ring_without_a_writer_is_removed(ring_dir: Path) -> None:
    """Crashed servers leave rings behind; the next one cleans up."""
    path = dead_ring(ring_dir)
    make_old(path)
    sweep(ring_dir)
    assert not path.exists()


def test_a_ring_whose_writer_has_just_died_is_kept(ring_dir: Path) -> None:
    """Its last records are the ones that tell why."""
    path = dead_ring(ring_dir)
    sweep(ring_dir)
    assert path.exists()


def test_an_old_ring_with_a_living_writer_is_kept(ring_dir: Path) -> None:
    """Age alone says nothing: a server may run for months."""
    writer = RingWriter(ring_dir, SMALL)
    make_old(writer.path)
    sweep(ring_dir)
    assert writer.path.exists()
    writer.close()


def test_a_long_lived_writer_that_died_counts_from_its_death(ring_dir: Path) -> None:
    """Stores through a mapping do not touch the file's age, so the anchor's refresh does."""
    writer = RingWriter(ring_dir, SMALL)
    make_old(writer.path)
    writer.refresh_anchor()
    writer.close()
    sweep(ring_dir)
    assert writer.path.exists()


def test_the_draft_of_a_writer_that_died_is_removed(ring_dir: Path) -> None:
    """A crash between creation and rename leaves a draft."""
    draft = ring_dir / "12-0123456789ab.tmp"
    draft.write_bytes(b"")
    make_old(draft)
    sweep(ring_dir)
    assert not draft.exists()


def test_other_files_are_left_alone(ring_dir: Path) -> None:
    """The directory may be shared with something else."""
    others = [ring_dir / name for name in ("notes.txt", "upload.tmp", "signet.ring")]
    for other in others:
        other.write_text("mine", "utf-8")
        make_old(other)
    sweep(ring_dir)
    assert all(other.exists() for other in others)


def test_what_cannot_be_removed_does_not_stop_the_sweep(ring_dir: Path) -> None:
    """A directory and a pipe that are called like rings, before and after a real one."""
    (ring_dir / "0.ring").mkdir()
    os.mkfifo(ring_dir / "1.ring")
    path = dead_ring(ring_dir)
    for each in ring_dir.iterdir():
        make_old(each)
    sweep(ring_dir)
    assert not path.exists()
    assert (ring_dir / "0.ring").exists()


def test_a_missing_directory_has_nothing_to_sweep(tmp_path: Path) -> None:
    """The first server on a machine."""
    sweep(tmp_path / "missing")


def test_a_file_that_cannot_be_opened_is_not_called_dead(tmp_path: Path) -> None:
    """What is not known is not removed."""
    assert not is_dead(tmp_path / "missing.ring")


def test_the_directory_is_made_if_its_parent_is_there(tmp_path: Path) -> None:
    """One level only: a mistyped path is an error, not a new tree."""
    prepare_directory(tmp_path / "rings")
    prepare_directory(tmp_path / "rings")
    assert (tmp_path / "rings").is_dir()
    with pytest.raises(FileNotFoundError):
        prepare_directory(tmp_path / "no" / "rings")


def test_a_file_in_the_place_of_the_directory_is_an_os_error(tmp_path: Path) -> None:
    """The caller turns it into a sentence."""
    (tmp_path / "rings").write_text("", "utf-8")
    with pytest.raises(FileExistsError):
        prepare_directory(tmp_path / "rings")
