"""Whatever the bytes: a recording is read whole, up to a missing end, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pinchpoint.dump import Dump
from pinchpoint.errors import PinchpointError, UnreadableError
from pinchpoint.recording import Recording, Tee
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.frames import (
    FRAME,
    HEADER,
    MAGIC,
    Frame,
    FrameKind,
    control_frame,
    pack_header,
)
from pinchpoint.schema.observations import (
    Observation,
    RecordsLost,
    SourceClosed,
    SourceOpened,
    Tick,
)
from pinchpoint.schema.samples import HostSample
from pinchpoint.schema.wire import VERSION, pack_sample
from pinchpoint.sidecar.source import RingSource
from tests.support.ring_content import write_ring

GOLDEN = Path(__file__).parents[1] / "golden" / "dump" / "records.txt"
SECOND = 1_000_000_000
anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def observed(directory: Path) -> list[tuple[Observation, Frame]]:
    """Everything that a ring and the agent can bring, as observations and as frames."""
    writer = write_ring(directory)
    source = RingSource(1, writer.path, from_start=True)
    arrivals: list[tuple[Observation, Frame]] = list(source.drain(SECOND))
    source.close()
    writer.close()
    made = (SourceOpened(1, 4321, -5), RecordsLost(2, "hole", 3), Tick(3, 4), SourceClosed(5))
    arrivals.extend((Observation(1, r), control_frame(1, r)) for r in made)
    host = HostSample(6, 0, cpus=4, busy_ns=7.0)
    frame = Frame(FrameKind.DETAIL, 0, pack_sample(1, host))
    return [*arrivals, (Observation(0, host), frame)]


def record(path: Path, frames: Iterator[Frame]) -> list[str]:
    """Write a recording; returns what was said."""
    said: list[str] = []
    tee = Tee(path, said.append)
    for frame in frames:
        tee.write(frame)
    tee.close()
    return said


def read_or_refused(path: Path) -> None:
    """Anything but an UnreadableError fails the test."""
    dump = Dump()
    with suppress(UnreadableError):
        for observation in Recording(path):
            dump.line(observation)


@pytest.fixture
def sound(tmp_path: Path) -> tuple[bytes, list[Observation]]:
    arrivals = observed(tmp_path)
    path = tmp_path / "sound.rec"
    assert record(path, (frame for _, frame in arrivals)) == []
    return path.read_bytes(), [observation for observation, _ in arrivals]


def test_what_was_recorded_is_read_back_the_same(
    tmp_path: Path, sound: tuple[bytes, list[Observation]]
) -> None:
    recording = Recording(tmp_path / "sound.rec")
    assert list(recording) == sound[1]
    assert recording.missing_from is None


def test_every_whole_frame_before_a_missing_end_is_read(
    tmp_path: Path, sound: tuple[bytes, list[Observation]]
) -> None:
    data, observations = sound
    ends = [HEADER.size]
    while ends[-1] < len(data):
        ends.append(ends[-1] + FRAME.size + FRAME.unpack_from(data, ends[-1])[2])
    path = tmp_path / "cut.rec"
    for length in range(HEADER.size, len(data)):
        path.write_bytes(data[:length])
        recording = Recording(path)
        whole = sum(end <= length for end in ends) - 1
        assert list(recording) == observations[:whole]
        assert recording.missing_from == (None if length in ends else ends[whole])


@anywhere
@given(st.binary(max_size=2000))
@example(b"")
@example(MAGIC)
def test_any_bytes_are_no_recording(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.rec"
    path.write_bytes(data)
    with pytest.raises(UnreadableError):
        list(Recording(path))


@anywhere
@given(st.binary(max_size=2000))
@example(FRAME.pack(FrameKind.EVENT, 1, 128) + bytes(128))
@example(FRAME.pack(FrameKind.LOST, 1, 17) + b"\xff" * 17)
@example(FRAME.pack(FrameKind.TICK, 0, 0))
def test_any_bytes_behind_a_header_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.rec"
    path.write_bytes(pack_header() + data)
    read_or_refused(path)


@anywhere
@given(st.data())
def test_a_changed_byte_is_read_or_refused(
    tmp_path: Path, sound: tuple[bytes, list[Observation]], data: st.DataObject
) -> None:
    changed = bytearray(sound[0])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.rec"
    path.write_bytes(changed)
    read_or_refused(path)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (HEADER.pack(MAGIC, VERSION + 1, 0, 0x01020304), f"has format {VERSION + 1}"),
        (HEADER.pack(MAGIC, VERSION << 8, 0, 0x04030201), "another byte order"),
        (b"PK\x03\x04 an archive that is longer", "no Pinchpoint recording"),
    ],
)
def test_a_header_that_cannot_be_read_here_is_explained(
    tmp_path: Path, header: bytes, sentence: str
) -> None:
    path = tmp_path / "foreign.rec"
    path.write_bytes(header)
    with pytest.raises(UnreadableError, match=sentence):
        Recording(path)


def test_damage_is_located(tmp_path: Path) -> None:
    path = tmp_path / "damaged.rec"
    tick = control_frame(0, Tick(1, 2)).pack()
    path.write_bytes(pack_header() + tick + b"\x63" + tick[1:])
    recording = iter(Recording(path))
    assert next(recording) == (0, Tick(1, 2))
    with pytest.raises(UnreadableError, match=f"damaged at byte {HEADER.size + len(tick)} "):
        next(recording)


def test_a_directory_and_a_missing_file_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.rec"):
        with pytest.raises(UnreadableError, match="cannot read"):
            list(Recording(path))


def test_a_recording_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PinchpointError, match="choose a writable --record FILE"):
        Tee(tmp_path / "absent" / "run.rec", print)


def test_a_full_disk_ends_the_recording_with_one_sentence() -> None:
    said: list[str] = []
    tee = Tee(Path("/dev/full"), said.append)
    for time_ns in range(1, 4):
        tee.write(control_frame(0, Tick(time_ns, 0)))
        tee.tick(Tick(time_ns * SECOND, 0))
    tee.close()
    assert tee.stopped
    (sentence,) = said
    assert "No space left on device" in sentence


def test_a_recording_ends_at_its_limit_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "limited.rec"
    said: list[str] = []
    tick = control_frame(0, Tick(1, 2))
    tee = Tee(path, said.append, bytes_max=HEADER.size + len(tick.pack()))
    for _ in range(3):
        tee.write(tick)
        tee.flush()
    tee.close()
    assert len(said) == 1
    assert list(Recording(path)) == [(0, Tick(1, 2))]


def test_a_second_after_the_last_flush_everything_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "flushed.rec"
    tee = Tee(path, print)
    for seconds in (1, 2):
        tee.write(control_frame(0, Tick(seconds * SECOND, 0)))
        tee.tick(Tick(seconds * SECOND, 0))
        assert len(list(Recording(path))) == seconds
    tee.close()


def test_each_record_is_one_line(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    dump = Dump()
    lines = [dump.line(observation) for observation, _ in observed(tmp_path)]
    if pytestconfig.getoption("--update-golden"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    assert lines == GOLDEN.read_text().splitlines()


def test_ring_and_recording_give_the_same_lines(tmp_path: Path) -> None:
    writer = write_ring(tmp_path)
    ring = RingSource(1, writer.path, from_start=True)
    arrivals = [ring.opened(Anchor(1, 1)), *ring.drain(SECOND)]
    path = tmp_path / "same.rec"
    record(path, (frame for _, frame in arrivals))
    ring.close()
    writer.close()
    from_ring, from_file = Dump(), Dump()
    assert [from_file.line(o) for o in Recording(path)] == [from_ring.line(o) for o, _ in arrivals]
