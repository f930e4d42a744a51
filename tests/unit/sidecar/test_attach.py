from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from pinchpoint.ring.layout import ANCHOR, ANCHOR_OFFSET
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.events import RequestEvent
from pinchpoint.schema.observations import (
    NameKind,
    Observation,
    RecordsLost,
    SourceClosed,
    SourceOpened,
)
from pinchpoint.sidecar.attach import Rings
from tests.support.ring_content import SLOT_COUNTS, write_request

SECOND = 1_000_000_000


class Rig:
    """A directory that is watched, and what was said about it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []
        self.rings = Rings(directory, self.said.append)
        self._polls = 0

    def writer(self, requests: int) -> RingWriter:
        writer = RingWriter(self.directory, SLOT_COUNTS)
        self.write(writer, requests)
        return writer

    def write(self, writer: RingWriter, requests: int) -> None:
        method = writer.intern(NameKind.METHOD, "/pkg.Svc/Do")
        for _ in range(requests):
            write_request(writer, method)

    def poll(self) -> list[Observation]:
        self._polls += 1
        now = Anchor(self._polls * SECOND, self._polls * SECOND)
        return [arrival.observation for arrival in self.rings.poll(now)]

    def kinds(self) -> Counter[str]:
        return Counter(type(record).__name__ for _, record in self.poll())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_ring_that_appears_is_read_from_its_start(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(3)
    assert rig.kinds() == {"SourceOpened": 1, "Name": 1, "RequestEvent": 3}
    rig.write(writer, 2)
    assert rig.kinds() == {"RequestEvent": 2}
    writer.close()


def test_a_ring_that_was_there_before_is_read_from_its_head(rig: Rig) -> None:
    writer = rig.writer(3)
    assert rig.kinds() == {"SourceOpened": 1, "Name": 1}
    rig.write(writer, 2)
    assert rig.kinds() == {"RequestEvent": 2}
    writer.close()


def test_names_come_before_the_records_that_refer_to_them(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(1)
    kinds = [type(record).__name__ for _, record in rig.poll()]
    assert kinds == ["SourceOpened", "Name", "RequestEvent"]
    writer.close()


def test_a_dead_ring_is_read_to_its_end_closed_and_removed(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(3)
    writer.close()
    observations = rig.poll()
    assert isinstance(observations[0].record, SourceOpened)
    assert isinstance(observations[-1].record, SourceClosed)
    assert len(observations) == 6
    assert rig.rings.attached == 0
    assert not writer.path.exists()
    assert rig.poll() == []


def test_each_ring_is_a_source_of_its_own(rig: Rig) -> None:
    rig.poll()
    first, second = rig.writer(1), rig.writer(1)
    assert {source for source, _ in rig.poll()} == {1, 2}
    assert rig.rings.attached == 2
    first.close()
    second.close()


def test_an_unlinked_ring_is_read_while_its_writer_lives(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(1)
    rig.poll()
    writer.path.unlink()
    rig.write(writer, 2)
    assert rig.kinds() == {"RequestEvent": 2}
    writer.close()
    assert rig.kinds() == {"SourceClosed": 1}


def test_a_ring_that_is_cut_short_is_let_go(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(1)
    rig.poll()
    os.truncate(writer.path, 4096)
    assert rig.kinds() == {"SourceClosed": 1}
    assert rig.rings.errors == 1
    assert "was cut short" in rig.said[0]
    assert rig.poll() == []
    writer.close()


def test_a_bad_ring_is_counted_and_said_once(rig: Rig) -> None:
    (rig.directory / "bad.ring").write_text("no ring")
    assert rig.poll() == rig.poll() == []
    assert rig.rings.errors == 1
    assert len(rig.said) == 1


def test_a_file_that_is_no_ring_by_name_is_left_alone(rig: Rig) -> None:
    (rig.directory / "1-abc.tmp").write_text("a ring being made")
    assert rig.poll() == []
    assert rig.said == []


def test_a_directory_that_comes_and_goes_is_said_each_time_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rings")
    assert rig.poll() == rig.poll() == []
    assert len(rig.said) == 1
    rig.directory.mkdir()
    rig.poll()
    rig.directory.rmdir()
    assert rig.poll() == rig.poll() == []
    assert len(rig.said) == 2


def test_what_an_overrun_cost_is_counted_exactly(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(1)
    rig.poll()
    written = 3 * SLOT_COUNTS[0]
    rig.write(writer, written)
    records = [record for _, record in rig.poll()]
    lost = sum(r.count for r in records if isinstance(r, RecordsLost) and r.reason == "overrun")
    read = sum(isinstance(record, RequestEvent) for record in records)
    assert read > 0
    assert read + lost == written
    writer.close()


def test_an_impossible_clock_is_refused(rig: Rig) -> None:
    rig.poll()
    writer = rig.writer(0)
    ANCHOR.pack_into(writer.buffer, ANCHOR_OFFSET, 9, 2**64 - 1, 0, 9)
    assert rig.poll() == []
    assert "its clocks are impossible" in rig.said[0]
    writer.close()
