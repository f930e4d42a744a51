"""Whatever bytes a ring file has, a reader ends in RingError or in losses; whatever records it has,
the agent goes on and its exposition can be scraped."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from pinchpoint.dump import Dump
from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.negotiate import DEFAULT_ESCAPING
from pinchpoint.expose.protobuf import encode
from pinchpoint.expose.state import PublishedState
from pinchpoint.pipeline import Pipeline
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.ring.layout import HEADER_BYTES, Header, RingError, pack_header, plan
from pinchpoint.ring.reader import HOLE_PATIENCE_NS, Loss, RingReader
from pinchpoint.schema.events import Event, RequestDetail
from pinchpoint.schema.observations import (
    Name,
    NameKind,
    Observation,
    Record,
    SourceClosed,
    SourceOpened,
    Tick,
)
from pinchpoint.schema.samples import Sample
from pinchpoint.schema.wire import (
    KIND_DEVICE,
    SLOT_BYTES,
    VERSION,
    InvalidRecordError,
    Segment,
    unpack_detail,
    unpack_event,
    unpack_name,
)
from pinchpoint.snapshot import AgentFacts
from tests.support import records

COUNTS = (8, 4, 4)
SEGMENTS = plan(COUNTS)
BODY_BYTES = Header(VERSION, 1, 1, 1, "", SEGMENTS).file_bytes - HEADER_BYTES
OPTIONS = PipelineOptions(native_histograms=True, stage_histograms=True)
"""Everything that can be exposed."""
UNPACK = (unpack_event, unpack_detail, unpack_name)


def read_all(data: bytes, *, from_start: bool) -> None:
    """What an agent does with a ring, a few polls long."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.ring"
        path.write_bytes(data)
        try:
            reader = RingReader(path, from_start=from_start)
        except RingError:
            return
        losses: list[Loss] = []
        reader.anchor()
        for poll in range(4):
            for segment in Segment:
                for slot in reader.poll(segment, poll * HOLE_PATIENCE_NS + 1, losses.append):
                    try:
                        record = UNPACK[segment](slot)
                    except InvalidRecordError:
                        continue
                    assert isinstance(record, Name) == (segment is Segment.NAMES)
        reader.close()
        assert all(loss.records > 0 for loss in losses)


@given(st.binary(max_size=3 * HEADER_BYTES), st.booleans())
@settings(max_examples=50, deadline=None)
def test_random_bytes_are_no_ring(data: bytes, from_start: bool) -> None:
    """A file of any content and size."""
    read_all(data, from_start=from_start)


@given(
    edits=st.lists(st.tuples(st.integers(0, 128), st.binary(min_size=1, max_size=9)), max_size=6),
    cut=st.integers(0, BODY_BYTES),
    from_start=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_header_with_any_damage_is_refused_or_read(
    edits: list[tuple[int, bytes]], cut: int, from_start: bool
) -> None:
    """Bytes of a good header changed, and the file cut anywhere."""
    data = bytearray(pack_header(Header(VERSION, 1, 1, 1, "boot", SEGMENTS)) + bytes(BODY_BYTES))
    for offset, replacement in edits:
        data[offset : offset + len(replacement)] = replacement
    read_all(bytes(data[: HEADER_BYTES + BODY_BYTES - cut // 8]), from_start=from_start)


@st.composite
def slots(draw: st.DrawFn) -> bytes:
    """Segments of slots whose numbers are near what they could be, and bodies that are not."""
    body = bytearray()
    for segment, slot_bytes in zip(SEGMENTS, SLOT_BYTES, strict=True):
        for index in range(segment.slot_count):
            laps = draw(st.sampled_from((0, 1, 2, 3, 2**40, 2**58)))
            first = (index + 1 + laps * segment.slot_count) % 2**64
            last = draw(st.sampled_from((first, 0, first + 1, 2**64 - 1)))
            if draw(st.booleans()):
                first, last = draw(st.sampled_from(((0, 0), (last, first))))
            kind = draw(st.integers(0, KIND_DEVICE + 1))
            fill = draw(st.binary(max_size=16))
            inner = (struct.pack("@H", kind) + fill).ljust(slot_bytes - 16, fill[:1] or b"\0")
            body += struct.pack("@Q", first) + inner + struct.pack("@Q", last)
    return bytes(body)


@given(slots(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_slots_with_any_numbers_end_in_records_or_losses(body: bytes, from_start: bool) -> None:
    """A good header before sequence numbers and bodies of every kind."""
    header = pack_header(Header(VERSION, 1, 1, 1, "boot", SEGMENTS))
    read_all(header + body, from_start=from_start)


IDS = st.integers(0, 3)
NAMES = st.builds(
    Name, IDS, st.sampled_from(NameKind), st.integers(0, 2**16 - 1), st.text(max_size=20)
)
CONTROLS = st.just(SourceOpened(0, 1, 0)) | st.just(SourceClosed(0))


def few_names(record: Event | RequestDetail | Sample) -> Event | RequestDetail | Sample:
    """The record with ids that a name of the same source may have."""
    if isinstance(record, Sample):
        return replace(record, instance=record.instance % 4)
    ids = {name: value % 4 for name, value in record._asdict().items() if name.endswith("_id")}
    return record._replace(**ids)


WRITTEN = st.one_of(records.EVENTS, records.DETAILS, records.samples()).map(few_names)


@given(
    st.lists(
        st.tuples(IDS, WRITTEN | NAMES | CONTROLS),
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None)
def test_whatever_the_records_the_agent_goes_on_and_can_be_scraped(
    observed: Iterable[tuple[int, Record]],
) -> None:
    """Any values that the format allows, from sources that come and go."""
    pipeline, dump = Pipeline(OPTIONS), Dump()
    for second, (source, record) in enumerate(observed, 1):
        for observation in (
            Observation(source, record),
            Observation(0, Tick(second * 1_000_000_000, second)),
        ):
            assert "\n" not in dump.line(observation)
            pipeline.feed(observation)
    collector = SnapshotCollector(PublishedState(pipeline.snapshot(AgentFacts())))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    in_text = series(text_string_to_metric_families(generate_latest(registry).decode()))
    openmetrics = exposition.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    assert series(openmetrics_families(openmetrics)) == in_text  # type: ignore[no-untyped-call]
    assert encode(collector.filled(), DEFAULT_ESCAPING)


def series(families: Iterable[Metric]) -> set[Hashable]:
    """Names and labels of the samples, of which no two are the same."""
    samples = [s for family in families for s in family.samples]
    found: set[Hashable] = {(s.name, *sorted(s.labels.items())) for s in samples}
    assert len(found) == len(samples)
    return found
