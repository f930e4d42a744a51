from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pinchpoint.ring import reader
from pinchpoint.ring.layout import ANCHOR, ANCHOR_OFFSET, plan
from pinchpoint.ring.reader import HOLE_PATIENCE_NS, Loss
from pinchpoint.schema.clock import Anchor
from tests.support.handmade import EVENTS, Follower, HandMadeRing


@pytest.fixture
def ring(tmp_path: Path) -> HandMadeRing:
    return HandMadeRing(tmp_path / "a.ring")


@pytest.fixture
def follower(ring: HandMadeRing) -> Iterator[Follower]:
    follower = Follower(ring.path)
    yield follower
    follower.reader.close()


def test_records_arrive_in_order_and_once(ring: HandMadeRing, follower: Follower) -> None:
    """A poll gives what is new since the last one."""
    ring.put(1, 2, 3)
    assert follower.poll() == [1, 2, 3]
    assert follower.poll() == []
    ring.put(4)
    assert follower.poll() == [4]
    assert follower.losses == []


def test_records_arrive_in_order_over_the_end_of_the_segment(
    ring: HandMadeRing, follower: Follower
) -> None:
    """Slots that are read together lie side by side; the next are at the beginning."""
    ring.put(*range(1, 7))
    assert follower.poll() == [1, 2, 3, 4, 5, 6]
    ring.put(*range(7, 13))
    assert follower.poll() == [7, 8, 9, 10, 11, 12]
    assert follower.losses == []


@pytest.mark.parametrize(("batch", "most"), [(1, 3), (2, 3), (1024, 3), (1024, 1)])
def test_a_poll_ends_at_its_limit_and_the_next_goes_on_there(
    ring: HandMadeRing,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    most: int,
) -> None:
    """However many slots are read together, the limit splits them without a loss."""
    monkeypatch.setattr(reader, "BATCH_SLOTS", batch)
    monkeypatch.setattr(reader, "POLL_SLOTS_MAX", most)
    ring.put(*range(1, 8))
    received = []
    while polled := follower.poll():
        assert len(polled) <= most
        received += polled
    assert received == [1, 2, 3, 4, 5, 6, 7]
    assert follower.losses == []


@pytest.mark.parametrize("overwritten", [(9,), (9, 10), (9, 10, 11, 12), tuple(range(9, 17))])
def test_a_slot_that_is_overwritten_while_it_is_read_is_not_handed_on(
    ring: HandMadeRing,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
    overwritten: tuple[int, ...],
) -> None:
    """The ends of all slots have been seen, their bodies have not, and the writer laps us."""
    agreeing = reader._agreeing
    pending = list(overwritten)

    def lapped(found: memoryview, expected: range) -> int:
        agreed = agreeing(found, expected)
        ring.put(*pending)
        pending.clear()
        return agreed

    monkeypatch.setattr(reader, "_agreeing", lapped)
    ring.put(*range(1, 9))

    received = follower.poll()

    assert received == list(range(received[0], overwritten[-1] + 1))
    assert received[0] > overwritten[-1] - EVENTS
    assert follower.lost("overrun") == received[0] - 1


def test_a_segment_may_begin_at_any_byte(tmp_path: Path) -> None:
    """A header that nobody of ours wrote is read as it is, aligned or not."""
    segments = tuple(segment._replace(offset=segment.offset + 3) for segment in plan((8, 4, 4)))
    ring = HandMadeRing(tmp_path / "odd.ring", segments)
    follower = Follower(ring.path)
    ring.put(1, 2, 3)
    assert follower.poll() == [1, 2, 3]
    follower.reader.close()


def test_an_empty_ring_gives_nothing(follower: Follower) -> None:
    """Zero is no sequence number: untouched slots are not records."""
    assert follower.poll() == []
    assert follower.losses == []


@pytest.mark.parametrize(
    ("from_start", "expected"), [(False, []), (True, [4, 5, 6, 7, 8, 9, 10, 11])]
)
def test_a_reader_attaches_at_the_head_unless_told_otherwise(
    ring: HandMadeRing, from_start: bool, expected: list[int]
) -> None:
    """An agent counts from when it came; `dump` wants all that is there."""
    ring.put(*range(1, 12))
    follower = Follower(ring.path, from_start=from_start)

    assert follower.poll() == expected
    ring.put(12)
    assert follower.poll() == [12]
    assert follower.losses == []
    follower.reader.close()


@pytest.mark.parametrize(("first", "last"), [(2, 0), (0, 2), (2, 1), (10, 2), (2, 10)])
def test_a_torn_slot_is_never_a_record(
    ring: HandMadeRing, follower: Follower, first: int, last: int
) -> None:
    """Whichever half is new, a slot whose numbers differ is not handed on."""
    ring.put(1)
    ring.put_torn(2, first=first, last=last)
    assert follower.poll() == [1]


def test_a_slot_that_is_being_written_is_waited_for(ring: HandMadeRing, follower: Follower) -> None:
    """A record that was late for one poll is there for the next, and nothing is lost."""
    ring.put(1, 3)
    assert follower.poll(now_ns=1) == [1]
    assert follower.poll(now_ns=HOLE_PATIENCE_NS) == []
    ring.put(2)
    assert follower.poll(now_ns=HOLE_PATIENCE_NS) == [2, 3]
    assert follower.losses == []


def test_a_slot_that_stays_unwritten_is_passed_and_counted(
    ring: HandMadeRing, follower: Follower
) -> None:
    """A thread that died between claim and write holds nothing up for ever."""
    ring.put(1, 3)
    assert follower.poll(now_ns=1) == [1]
    assert follower.poll(now_ns=1 + HOLE_PATIENCE_NS) == [3]
    assert follower.losses == [Loss("hole", 1)]


def test_each_hole_has_its_own_patience(ring: HandMadeRing, follower: Follower) -> None:
    """Two holes are two waits: the second may be a record that is just being written."""
    ring.put(1, 3, 5)
    assert follower.poll(now_ns=1) == [1]
    assert follower.poll(now_ns=1 + HOLE_PATIENCE_NS) == [3]
    ring.put(4)
    assert follower.poll(now_ns=2 + HOLE_PATIENCE_NS) == [4, 5]
    assert follower.lost("hole") == 1


def test_a_crash_in_mid_write_at_the_head_is_no_loss(
    ring: HandMadeRing, follower: Follower
) -> None:
    """Nothing came after it, so nothing says that a record was claimed there."""
    ring.put(1)
    ring.put_torn(2, first=2, last=0)
    assert follower.poll(now_ns=1) == [1]
    assert follower.poll(now_ns=1 + 10 * HOLE_PATIENCE_NS) == []
    assert follower.losses == []


def test_a_reader_that_was_lapped_counts_exactly_what_it_missed(
    ring: HandMadeRing, follower: Follower
) -> None:
    """Every number is either received or counted as lost."""
    ring.put(1, 2)
    assert follower.poll() == [1, 2]
    ring.put(*range(3, 14))

    received = follower.poll()

    assert received == list(range(received[0], 14))
    assert follower.lost("overrun") == received[0] - 3
    assert len(received) + follower.lost("overrun") == 11


def test_a_reader_that_was_lapped_leaves_the_writer_room(
    ring: HandMadeRing, follower: Follower
) -> None:
    """It gives up a quarter more than it must, or the next record would lap it again."""
    ring.put(*range(1, 10))
    assert follower.poll() == list(range(9 - EVENTS + EVENTS // 4, 10))


@pytest.mark.parametrize("written", [9, 12, 16, 17, 30, 1000])
def test_losses_add_up_however_far_the_writer_is_ahead(
    ring: HandMadeRing, follower: Follower, written: int
) -> None:
    """Several laps are as exact as one."""
    ring.put(*range(1, written + 1))
    received = follower.poll()

    assert received[-1] == written
    assert len(received) + follower.lost("overrun") == written


def test_a_hole_that_is_overrun_is_counted_once(ring: HandMadeRing, follower: Follower) -> None:
    """The reader waits at the hole while the writer laps it."""
    ring.put(1, 3)
    assert follower.poll(now_ns=1) == [1]
    ring.put(*range(4, 12))
    received = follower.poll(now_ns=2)

    assert received[-1] == 11
    assert len(received) + follower.lost("overrun") == 10
    assert follower.lost("hole") == 0


def test_a_sequence_number_of_another_slot_is_not_believed(
    ring: HandMadeRing, follower: Follower
) -> None:
    """Numbers that this slot cannot hold are damage, not a lap."""
    ring.put(1)
    ring.put_torn(2, first=1_000_001, last=1_000_001)
    assert follower.poll() == [1]
    assert follower.losses == []


def test_the_largest_sequence_number_ends_in_losses(ring: HandMadeRing) -> None:
    """A hostile number makes the reader lose records, not fail."""
    ring.put_torn(8, first=2**64 - 8, last=2**64 - 8)
    for from_start in (True, False):
        follower = Follower(ring.path, from_start=from_start)
        follower.poll()
        ring.put(1)
        follower.poll()
        follower.reader.close()


def test_the_anchor_is_given_when_it_is_whole(ring: HandMadeRing, follower: Follower) -> None:
    """Half an anchor would shift every time of the ring."""
    ring.write(ANCHOR.pack(3, 111, 222, 3), ANCHOR_OFFSET)
    assert follower.reader.anchor() == Anchor(111, 222)
    ring.write(ANCHOR.pack(4, 111, 222, 3), ANCHOR_OFFSET)
    assert follower.reader.anchor() is None


def test_a_file_that_was_cut_short_says_so(ring: HandMadeRing, follower: Follower) -> None:
    """Touching pages behind the end would kill the agent; it asks before each poll."""
    assert follower.reader.whole()
    with ring.path.open("r+b") as file:
        file.truncate(ring.header.file_bytes - 1)
    assert not follower.reader.whole()


def test_a_ring_that_was_unlinked_is_still_read(ring: HandMadeRing, follower: Follower) -> None:
    """The mapping outlives the name."""
    ring.put(1)
    ring.path.unlink()
    assert follower.poll() == [1]
