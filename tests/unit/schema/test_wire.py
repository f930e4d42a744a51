from __future__ import annotations

import pytest

from pinchpoint.schema import wire
from pinchpoint.schema.events import (
    DeviceEvent,
    Event,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StackEvent,
    StageEvent,
    StageTime,
    StreamEvent,
)
from pinchpoint.schema.samples import SAMPLE_TYPES, ProcessSample
from pinchpoint.schema.terms import (
    CALL_TYPES,
    GRPC_CODES,
    HTTP,
    STAGES,
    STATUS_MAX,
    UNARY,
    WAIT_CATEGORIES,
    status_text,
)
from tests.support import records

REQUEST = RequestEvent(UNARY, 0, 0, 1, 0, 1, 0, 0, 5, 1, 2, 3, 4, 0, 0, 0, 0)
STREAM = StreamEvent(UNARY, 1, 2, 3, 4, 5, 6, (7,) * wire.GAP_COUNTS)
EVENTS = (
    REQUEST,
    ForwardEvent(0, 1, 2, 3, 4, 5, 6),
    LayerEvent(1, 2, 3, 4, 5, 6, 7),
    StackEvent(0, 0, 1, 2, 3, 4),
    STREAM,
    StageEvent(1, 2, 3, 4, 5, 6),
    DeviceEvent(1, 2, 3, 4, 5, 6),
)
DETAIL = RequestDetail(
    0, 0, 1, 0, 0, 2.5, 5, 10, 0, 7, None, 1, 0, (StageTime(3, 2, 1),) * len(STAGES)
)


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (wire.REQUEST, 128),
        (wire.PLAIN_REQUEST, 128),
        (wire.FORWARD, 128),
        (wire.LAYER, 128),
        (wire.STACK, 128),
        (wire.STREAM, 128),
        (wire.STAGE, 128),
        (wire.DEVICE, 128),
        (wire.DETAIL, 512),
        (wire.SAMPLE, 512),
        (wire.NAME, 256),
    ],
)
def test_every_record_fills_its_slot_exactly(layout: object, size: int) -> None:
    """A slot that a record does not fill would shift the one behind it."""
    assert layout.size == size  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "slot",
    [
        *(records.pack_event(77, event) for event in EVENTS),
        records.pack_detail(77, DETAIL),
        wire.pack_sample(77, ProcessSample(1, 0, threads=3)),
        wire.NAME.pack(77, 1, 0, 1, b"a", 77),
    ],
    ids=[*(type(event).__name__ for event in EVENTS), "detail", "sample", "name"],
)
def test_the_sequence_number_is_first_and_last(slot: bytes) -> None:
    """The reader finds torn slots by comparing the two."""
    assert wire.SEQUENCE.unpack(slot[:8]) == wire.SEQUENCE.unpack(slot[-8:]) == (77,)


@pytest.mark.parametrize("sample_type", SAMPLE_TYPES)
def test_none_stays_none_and_zero_stays_zero(sample_type: type[ProcessSample]) -> None:
    """Absent is absent: it never comes back as 0, nor 0 as absent."""
    absent = sample_type(9, 4)
    zeros = sample_type(9, 4, **dict.fromkeys(wire.sample_fields(sample_type), 0.0))

    assert wire.unpack_detail(wire.pack_sample(1, absent)) == absent
    assert wire.unpack_detail(wire.pack_sample(1, zeros)) == zeros


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1.7e308])
def test_a_value_that_is_no_number_is_refused(value: float) -> None:
    """A NaN in a counter would poison every sum it enters."""
    with pytest.raises(wire.InvalidRecordError, match="no reading"):
        wire.unpack_detail(wire.pack_sample(1, ProcessSample(1, 0, threads=value)))


@pytest.mark.parametrize(
    "event",
    [
        REQUEST._replace(call_type=len(CALL_TYPES)),
        REQUEST._replace(status=len(GRPC_CODES)),
        REQUEST._replace(call_type=HTTP, status=STATUS_MAX + 1),
        STREAM._replace(call_type=len(CALL_TYPES)),
    ],
)
def test_an_event_of_unknown_type_or_status_is_refused(event: Event) -> None:
    """An index outside of its vocabulary has no name to be exported under."""
    with pytest.raises(wire.InvalidRecordError):
        wire.unpack_event(records.pack_event(1, event))


@pytest.mark.parametrize(
    "detail",
    [
        DETAIL._replace(call_type=len(CALL_TYPES)),
        DETAIL._replace(status=len(GRPC_CODES)),
        DETAIL._replace(call_type=HTTP, status=STATUS_MAX + 1),
    ],
)
def test_a_detail_of_unknown_type_or_status_is_refused(detail: RequestDetail) -> None:
    """As for requests."""
    with pytest.raises(wire.InvalidRecordError, match="type or status"):
        wire.unpack_detail(records.pack_detail(1, detail))


@pytest.mark.parametrize(
    ("call_type", "status", "text"),
    [(UNARY, 0, "OK"), (UNARY, 4, "DEADLINE_EXCEEDED"), (HTTP, 0, "0"), (HTTP, 404, "404")],
)
def test_a_status_is_a_grpc_code_or_an_http_one(call_type: int, status: int, text: str) -> None:
    """By the type of the request."""
    event = REQUEST._replace(call_type=call_type, status=status)
    assert wire.unpack_event(records.pack_event(1, event)) == event
    assert status_text(call_type, status) == text


@pytest.mark.parametrize(("category", "stage"), [(len(WAIT_CATEGORIES), 0), (0, len(STAGES))])
def test_a_stack_of_unknown_category_or_stage_is_refused(category: int, stage: int) -> None:
    """As for requests."""
    with pytest.raises(wire.InvalidRecordError):
        wire.unpack_event(records.pack_event(1, StackEvent(category, stage, 1, 1, 1, 1)))


@pytest.mark.parametrize("weight", [0.0, 0.99, -1.0, 1e7, float("nan"), float("inf")])
def test_a_detail_of_impossible_weight_is_refused(weight: float) -> None:
    """A weight multiplies everything that the detail says."""
    with pytest.raises(wire.InvalidRecordError, match="weight"):
        wire.unpack_detail(records.pack_detail(1, DETAIL._replace(weight=weight)))


def test_an_unknown_kind_is_refused_by_its_number() -> None:
    """A record of a later version says what it is not."""
    with pytest.raises(wire.InvalidRecordError, match="unknown event kind 999"):
        wire.unpack_event(b"\0" * 8 + (999).to_bytes(2, "little") + b"\0" * 118)


def test_a_sample_of_an_unknown_type_is_refused() -> None:
    """Sample types are appended; an older reader does not know the new ones."""
    frame = wire.SAMPLE.pack(1, wire.KIND_SAMPLE, len(SAMPLE_TYPES), 0, 0, 0, *[0.0] * 48, 1)
    with pytest.raises(wire.InvalidRecordError, match="unknown sample type"):
        wire.unpack_detail(frame)


@pytest.mark.parametrize("character", ["a", "é", "€", "🦊"])
@pytest.mark.parametrize("shift", range(4))
def test_a_long_name_is_cut_between_characters(character: str, shift: int) -> None:
    """The cut never leaves half a character, and wastes less than one."""
    text = "x" * shift + character * 300
    cut = wire.name_text(text)

    assert text.startswith(cut.decode("utf-8"))
    assert wire.NAME_TEXT_BYTES - len(character.encode()) < len(cut) <= wire.NAME_TEXT_BYTES


def test_a_name_longer_than_its_slot_is_refused() -> None:
    """The stated length is not trusted."""
    with pytest.raises(wire.InvalidRecordError, match="longer"):
        wire.unpack_name(wire.NAME.pack(1, 1, 0, wire.NAME_TEXT_BYTES + 1, b"a", 1))


def test_a_name_that_is_no_utf_8_is_still_text() -> None:
    """Hostile bytes end as replacement characters."""
    assert wire.unpack_name(wire.NAME.pack(1, 1, 0, 2, b"\xff\xfe", 1)).text == "\ufffd\ufffd"
