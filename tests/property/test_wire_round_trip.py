"""Whatever is packed comes back the same; whatever else is unpacked is an InvalidRecordError."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.schema import wire
from pinchpoint.schema.events import Event, RequestDetail, RequestEvent
from pinchpoint.schema.observations import Name, NameKind
from pinchpoint.schema.samples import Sample
from tests.support import records

EVENT_KINDS = (
    wire.KIND_REQUEST,
    wire.KIND_FORWARD,
    wire.KIND_LAYER,
    wire.KIND_STACK,
    wire.KIND_STREAM,
    wire.KIND_STAGE,
    wire.KIND_DEVICE,
)
DETAIL_KINDS = (wire.KIND_DETAIL, wire.KIND_SAMPLE)


@given(records.SEQUENCES, records.EVENTS)
def test_an_event_survives_the_wire(sequence: int, event: Event) -> None:
    """Whatever its kind, every field comes back as it was."""
    assert wire.unpack_event(records.pack_event(sequence, event)) == event


@given(records.SEQUENCES, records.REQUESTS)
def test_a_request_without_a_forward_survives_its_shorter_layout(
    sequence: int, event: RequestEvent
) -> None:
    """What the layout leaves out is zero."""
    plain = event._replace(
        model_id=0, batch_size=0, forwards=0,
        preprocess_ns=0, batch_wait_ns=0, forward_ns=0, postprocess_ns=0,
    )  # fmt: skip
    slot = wire.PLAIN_REQUEST.pack(
        sequence, wire.KIND_REQUEST, plain.call_type, plain.status, plain.flags, plain.method_id,
        plain.server_id, plain.arrival_ns, plain.queue_ns, plain.receive_ns, plain.handler_ns,
        plain.send_ns, sequence,
    )  # fmt: skip
    assert wire.unpack_event(slot) == plain


@given(records.SEQUENCES, records.DETAILS)
def test_a_detail_survives_the_wire(sequence: int, detail: RequestDetail) -> None:
    """A sampled request comes back as it was, unknown sizes as None."""
    assert wire.unpack_detail(records.pack_detail(sequence, detail)) == detail


@given(records.SEQUENCES, records.samples())
def test_a_sample_survives_the_wire(sequence: int, sample: Sample) -> None:
    """Every value comes back, and what was absent stays absent."""
    assert wire.unpack_detail(wire.pack_sample(sequence, sample)) == sample


@given(records.SEQUENCES, st.sampled_from(NameKind), records.U16, st.text())
def test_a_name_survives_the_wire_up_to_its_cut(
    sequence: int, kind: NameKind, detail: int, text: str
) -> None:
    """A name comes back whole, or as much of its beginning as fits, in whole characters."""
    encoded = wire.name_text(text)
    name = wire.unpack_name(wire.NAME.pack(sequence, kind, detail, len(encoded), encoded, sequence))
    assert name == Name(sequence, kind, detail, name.text)
    assert text.encode("utf-8", "replace").decode().startswith(name.text)
    if len(text.encode("utf-8", "replace")) <= wire.NAME_TEXT_BYTES:
        assert name.text == text.encode("utf-8", "replace").decode()


def _hostile(size: int, kinds: tuple[int, ...]) -> st.SearchStrategy[bytes]:
    """Bytes of a slot's size, with a known kind in half of the cases."""
    anything = st.binary(min_size=size, max_size=size)
    known = st.sampled_from(kinds).map(lambda kind: kind.to_bytes(2, "little"))
    return anything | st.builds(lambda slot, kind: slot[:8] + kind + slot[10:], anything, known)


@pytest.mark.parametrize(
    ("unpack", "slots"),
    [
        pytest.param(wire.unpack_event, _hostile(wire.EVENT_BYTES, EVENT_KINDS), id="event"),
        pytest.param(wire.unpack_detail, _hostile(wire.DETAIL_BYTES, DETAIL_KINDS), id="detail"),
        pytest.param(wire.unpack_name, _hostile(wire.NAME_BYTES, (0,)), id="name"),
        pytest.param(wire.unpack_event, st.binary(max_size=300), id="event of any size"),
        pytest.param(wire.unpack_detail, st.binary(max_size=600), id="detail of any size"),
        pytest.param(wire.unpack_name, st.binary(max_size=300), id="name of any size"),
    ],
)
@given(data=st.data())
def test_any_bytes_are_a_record_or_an_invalid_record_error(
    unpack: Callable[[bytes], Any], slots: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    """Hostile bytes never raise anything else."""
    with contextlib.suppress(wire.InvalidRecordError):
        unpack(data.draw(slots))
