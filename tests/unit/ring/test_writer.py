from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pinchpoint.ring.reader import Loss, RingReader
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema import wire
from pinchpoint.schema.events import RequestEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import ProcessSample
from pinchpoint.schema.wire import Segment, unpack_event
from tests.support.handmade import EMPTY
from tests.support.records import pack_event
from tests.support.rings import contents, ring_files
from tests.support.scripts import running
from tests.support.tmpfs import tiny_tmpfs
from tests.support.waiting import until

SMALL = (16, 8, 8)


@contextmanager
def ring(directory: Path, slot_counts: tuple[int, ...] = SMALL) -> Iterator[RingWriter]:
    writer = RingWriter(directory, slot_counts)
    try:
        yield writer
    finally:
        writer.close()


def write_request(writer: RingWriter, mark: int) -> None:
    """What the recorder does, with `mark` in every field that holds it."""
    sequence = writer.claim_event()
    event = EMPTY._replace(arrival_ns=mark, queue_ns=mark, receive_ns=mark, postprocess_ns=mark)
    offset = writer.event_offset + ((sequence - 1) & writer.event_mask) * wire.EVENT_BYTES
    fields = wire.REQUEST.unpack(pack_event(sequence, event))
    wire.REQUEST.pack_into(writer.buffer, offset, *fields)


def mark_of(slot: bytes) -> int:
    """The mark in a slot that `write_request` filled."""
    event = unpack_event(slot)
    assert isinstance(event, RequestEvent)
    return event.arrival_ns


def test_a_new_ring_states_its_process_and_clocks(ring_dir: Path) -> None:
    """A reader knows whose ring it is before the first record."""
    with ring(ring_dir) as writer:
        reader = RingReader(writer.path)
        assert reader.header.process_id == os.getpid()
        anchor = reader.anchor()
        assert anchor is not None
        assert anchor.monotonic_ns >= reader.header.start_monotonic_ns
        assert anchor.wall_ns >= reader.header.start_wall_ns
        reader.close()


def test_only_the_finished_file_is_left(ring_dir: Path) -> None:
    """The draft has become the ring; there is nothing else to find."""
    with ring(ring_dir) as writer:
        assert list(ring_dir.iterdir()) == [writer.path]


def test_two_rings_of_one_process_have_different_names(ring_dir: Path) -> None:
    """Process ids collide between containers that share the directory."""
    with ring(ring_dir) as one, ring(ring_dir) as other:
        assert one.path != other.path


def test_samples_are_read_as_they_were_written(ring_dir: Path) -> None:
    """A sampler's reading arrives with its absences."""
    sample = ProcessSample(7, 3, threads=5, resident_bytes=None)
    with ring(ring_dir) as writer:
        writer.write_sample(sample)
        assert contents(writer.path).samples == [sample]


def test_a_name_is_written_once_and_found_by_a_late_reader(ring_dir: Path) -> None:
    """The table is append-only and read from its beginning."""
    with ring(ring_dir) as writer:
        first = writer.intern(NameKind.METHOD, "/a.B/C", 2)
        assert writer.intern(NameKind.METHOD, "/a.B/C", 2) == first
        model = writer.intern(NameKind.MODEL, "/a.B/C")
        reader = RingReader(writer.path)
        slots = reader.poll(Segment.NAMES, 0, lambda _: None)
        names = [wire.unpack_name(slot) for slot in slots]
        reader.close()
    assert [tuple(name) for name in names] == [
        (first, NameKind.METHOD, 2, "/a.B/C"),
        (model, NameKind.MODEL, 0, "/a.B/C"),
    ]


def test_a_full_name_table_gives_zero_and_keeps_what_it_has(ring_dir: Path) -> None:
    """Id 0 is shown as `_OTHER`; earlier names still resolve, and the writer goes on."""
    with ring(ring_dir) as writer:
        ids = [writer.intern(NameKind.LAYER, f"layer{i}") for i in range(12)]
        assert ids == [*range(1, 9), 0, 0, 0, 0]
        assert writer.intern(NameKind.LAYER, "layer3") == 4
        assert [name.text for name in contents(writer.path).names] == [
            f"layer{i}" for i in range(8)
        ]


def test_names_interned_by_many_threads_at_once_get_one_id_each(ring_dir: Path) -> None:
    """Two workers that meet a method for the first time agree about its number."""
    with ring(ring_dir, (16, 8, 64)) as writer:
        barrier = threading.Barrier(4)
        ids: list[list[int]] = []

        def intern() -> None:
            barrier.wait()
            ids.append([writer.intern(NameKind.METHOD, f"m{i}") for i in range(50)])

        threads = [threading.Thread(target=intern) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(each == ids[0] for each in ids)
        assert sorted(ids[0]) == list(range(1, 51))


@pytest.mark.parametrize(("slots", "patient"), [(64, False), (16384, True)])
def test_a_chasing_reader_sees_nothing_torn_and_counts_every_loss(
    ring_dir: Path, slots: int, patient: bool
) -> None:
    """Received and lost are what was written, whether the reader was lapped or not."""
    threads_count, each = 4, 4000
    with ring(ring_dir, (slots, 8, 8)) as writer:
        reader = RingReader(writer.path)
        losses: list[Loss] = []
        received = 0
        torn = 0

        def write() -> None:
            for mark in range(1, each + 1):
                write_request(writer, mark)

        def poll(now_ns: int) -> None:
            nonlocal received, torn
            for slot in reader.poll(Segment.EVENTS, now_ns, losses.append):
                event = unpack_event(slot)
                received += 1
                assert isinstance(event, RequestEvent)
                marks = event.arrival_ns, event.queue_ns, event.receive_ns, event.postprocess_ns
                torn += len(set(marks)) != 1

        threads = [threading.Thread(target=write) for _ in range(threads_count)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            poll(0)
        for thread in threads:
            thread.join()
        poll(0)
        reader.close()
    assert torn == 0
    assert received + sum(loss.records for loss in losses) == threads_count * each
    assert {loss.reason for loss in losses} <= {"overrun"}
    if patient:
        assert losses == []


CHILD = """
    import sys
    from pathlib import Path
    from pinchpoint.ring.writer import RingWriter
    from tests.unit.ring.test_writer import write_request
    writer = RingWriter(Path("{directory}"), (16, 8, 8))
    for mark in range(1, 6):
        write_request(writer, mark)
    print(writer.path, flush=True)
    sys.stdin.readline()
"""


def test_another_process_reads_along_and_sees_the_writer_die(ring_dir: Path) -> None:
    """SIGKILL releases the lock, and the records that were written stay readable."""
    with running(CHILD.replace("{directory}", str(ring_dir)), ring_dir) as child:
        path = Path(child.line())
        reader = RingReader(path, from_start=True)
        assert reader.header.process_id == child.pid
        assert reader.writer_alive()
        child.kill()
        assert not reader.writer_alive()
        slots = list(reader.poll(Segment.EVENTS, 0, lambda _: None))
        assert [mark_of(slot) for slot in slots] == [1, 2, 3, 4, 5]
        reader.close()


def test_asking_whether_the_writer_lives_takes_nothing_from_it(ring_dir: Path) -> None:
    """The reader's own attempt at the lock is undone, also when it succeeds."""
    writer = RingWriter(ring_dir, SMALL)
    one, other = RingReader(writer.path), RingReader(writer.path)
    assert one.writer_alive()
    assert other.writer_alive()
    writer.close()
    assert not one.writer_alive()
    assert not other.writer_alive()
    assert not one.writer_alive()
    one.close()
    other.close()


FORKED = """
    import os, sys
    from pathlib import Path
    from pinchpoint.ring.writer import RingWriter
    writer = RingWriter(Path("{directory}"), (16, 8, 8))
    child = os.fork()
    if child == 0:
        writer.abandon()
        sys.stdin.readline()
        os._exit(0)
    print(writer.path, flush=True)
    print(child, flush=True)
    sys.stdin.readline()
"""


def test_a_child_that_abandons_does_not_keep_its_parent_alive(ring_dir: Path) -> None:
    """The lock belongs to the open file that both inherited: the child lets go of it."""
    with running(FORKED.replace("{directory}", str(ring_dir)), ring_dir) as parent:
        reader = RingReader(Path(parent.line()))
        child = int(parent.line())
        assert reader.writer_alive()
        parent.kill()
        assert until(lambda: not reader.writer_alive())
        assert Path(f"/proc/{child}").exists()
        reader.close()


def test_a_directory_without_room_is_an_error_at_the_start(tmp_path: Path) -> None:
    """ENOSPC now; a sparse file would be a SIGBUS in the middle of a request."""
    with tiny_tmpfs(tmp_path) as directory:
        with pytest.raises(OSError, match="No space left on device"):
            RingWriter(directory)
        assert list(directory.iterdir()) == []


def test_a_directory_that_is_missing_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    """The caller makes the directory; the writer does not guess."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        RingWriter(tmp_path / "missing")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_anchor_is_refreshed_after_the_file_was_unlinked(ring_dir: Path) -> None:
    """An agent that removes a ring early does not disturb its writer."""
    with ring(ring_dir) as writer:
        reader = RingReader(writer.path)
        before = reader.anchor()
        writer.path.unlink()
        writer.refresh_anchor()
        after = reader.anchor()
        reader.close()
    assert before is not None
    assert after is not None
    assert after.monotonic_ns > before.monotonic_ns
    assert ring_files(ring_dir) == []
