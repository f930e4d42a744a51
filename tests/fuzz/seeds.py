"""Real files to begin with: rings as the probe writes them, the recordings that an agent makes of
them, and recordings of a service with a bottleneck, which get as far as the detector's tests.

    python -m tests.fuzz.seeds DIRECTORY      one directory of seeds for each target
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pinchpoint.recording import Tee
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.events import RequestDetail
from pinchpoint.schema.frames import Frame, FrameKind, control_frame, pack_header
from pinchpoint.schema.observations import (
    Name,
    NameKind,
    Observation,
    RecordsLost,
    SourceClosed,
    SourceOpened,
    Tick,
)
from pinchpoint.schema.samples import SAMPLE_TYPES, Sample, Value
from pinchpoint.schema.wire import NAME, name_text, pack_sample, sample_fields
from pinchpoint.sidecar.source import RingSource, made_here
from tests.fuzz.targets import TARGETS, unpacked
from tests.support.observations import HOT_LAYER, Load, Service
from tests.support.records import pack_detail, pack_event
from tests.support.ring_content import write_request, write_ring

SLOT_COUNTS = (8, 8, 8)
"""Small, so that most of a change of bytes hits something that is read."""

SAMPLES_PER_RING = 6

SLOW = Load(rate=6, looks=(("preprocess", "client"),) * 3, layers={HOT_LAYER.name_id: 20.0})
LOADS = (
    SLOW.but(
        quota_cores=0.5, throttled_periods_ratio=0.9, throttled_share=0.5, late_beats_ratio=0.9
    ).stage("forward", cpu=200.0, runqueue=100.0),
    SLOW.but(workers=1, python_cores=1.0, native_cores=0.5, gc_share=0.2, gc_milliseconds=50.0)
    .stage("preprocess", cpu=100.0, blocked=200.0)
    .stage("batch_wait", blocked=100.0),
    SLOW.but(stuck=True),
)
"""Each for `LOAD_SECONDS`, which is long enough for a verdict."""
LOAD_SECONDS = 3


def write_seeds(directory: Path) -> None:
    """Fill `directory/TARGET` for each target."""
    for target in TARGETS:
        (directory / target).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as rings:
        for number, ring in enumerate(_rings(Path(rings))):
            path = ring.path
            seed = directory / "ring" / f"seed-{number}"
            seed.write_bytes(unpacked("ring", path.read_bytes()))
            _record(path, directory / "recording" / f"seed-{number}")
            ring.close()
    for number, load in enumerate(LOADS):
        (directory / "recording" / f"load-{number}").write_bytes(_recorded(load))


def _recorded(load: Load) -> bytes:
    """The recording of a service."""
    service = Service()
    observed = (*service.open(), *service.run(load, LOAD_SECONDS), *service.close())
    frames = (_frame(number, observation) for number, observation in enumerate(observed, 1))
    return pack_header() + b"".join(frame.pack() for frame in frames)


def _frame(sequence: int, observation: Observation) -> Frame:
    source, record = observation
    if isinstance(record, Name):
        text = name_text(record.text)
        slot = NAME.pack(
            record.name_id, record.kind, record.detail, len(text), text, record.name_id
        )
        return Frame(FrameKind.NAME, source, slot)
    if isinstance(record, Sample):
        return Frame(FrameKind.DETAIL, source, pack_sample(sequence, record))
    if isinstance(record, RequestDetail):
        return Frame(FrameKind.DETAIL, source, pack_detail(sequence, record))
    if isinstance(record, SourceOpened | SourceClosed | RecordsLost | Tick):
        return control_frame(source, record)
    return Frame(FrameKind.EVENT, source, pack_event(sequence, record))


def _rings(directory: Path) -> Iterator[RingWriter]:
    yield RingWriter(directory, SLOT_COUNTS)
    yield write_ring(directory)
    yield _busy(directory)
    for first in range(0, len(SAMPLE_TYPES), SAMPLES_PER_RING):
        yield _sampled(directory, first)


def _busy(directory: Path) -> RingWriter:
    """Requests of two methods, more than there are slots."""
    ring = RingWriter(directory, SLOT_COUNTS)
    methods = [ring.intern(NameKind.METHOD, f"/pkg.Svc/{name}") for name in ("A", "B")]
    for number in range(20):
        write_request(ring, methods[number % 2], 12_345_678_901 + number * 10_000_000)
    return ring


def _sampled(directory: Path, first: int) -> RingWriter:
    """A sample of some types, all their values given."""
    ring = RingWriter(directory, SLOT_COUNTS)
    name = ring.intern(NameKind.OTHER, "container")
    for sample_type in SAMPLE_TYPES[first : first + SAMPLES_PER_RING]:
        values: dict[str, Value] = dict.fromkeys(sample_fields(sample_type), 1.0)
        ring.write_sample(sample_type(12_345_678_901, name, **values))
    return ring


def _record(ring: Path, path: Path) -> None:
    """What an agent with `--record` makes of a ring."""
    source = RingSource(1, ring, from_start=True)
    tee = Tee(path, print)
    now = Anchor(12_400_000_000, 1_700_000_000_000_000_000)
    tee.write(source.opened(now).frame)
    for arrival in source.poll(now.monotonic_ns):
        tee.write(arrival.frame)
    for second in range(12):
        at_ns = second * 1_000_000_000
        tick = Tick(now.monotonic_ns + at_ns, now.wall_ns + at_ns)
        tee.write(made_here(0, tick).frame)
    tee.write(source.closed(now.monotonic_ns).frame)
    tee.close()
    source.close()


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
