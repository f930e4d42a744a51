"""Arbitrary records, as Hypothesis strategies and as the bytes of their slots."""

from __future__ import annotations

from struct import Struct

from hypothesis import strategies as st

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
from pinchpoint.schema.samples import SAMPLE_TYPES, Sample
from pinchpoint.schema.terms import (
    CALL_TYPES,
    GRPC_CODES,
    GRPC_TYPES,
    STAGES,
    STATUS_MAX,
    WAIT_CATEGORIES,
)

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
SIZES = st.none() | st.integers(0, wire.UNKNOWN_BYTES - 1)
SEQUENCES = st.integers(1, 2**64 - 1)
TYPES = st.integers(0, len(CALL_TYPES) - 1)
VALUES = st.floats(-wire.SAMPLE_VALUE_MAX, wire.SAMPLE_VALUE_MAX)

OUTCOMES = TYPES.flatmap(
    lambda call_type: st.tuples(
        st.just(call_type),
        st.integers(0, len(GRPC_CODES) - 1 if call_type < len(GRPC_TYPES) else STATUS_MAX),
    )
)
"""Type and status: gRPC's codes or HTTP's."""

REQUESTS = st.builds(
    lambda outcome, *rest: RequestEvent(*outcome, *rest), OUTCOMES, U16, *[U32] * 5, *[U64] * 9
)
FORWARDS = st.builds(ForwardEvent, U16, U32, U32, U32, U64, U64, U64)
LAYERS = st.builds(LayerEvent, U32, U32, U32, U64, U64, U64, U64)
STACKS = st.builds(
    StackEvent,
    st.integers(0, len(WAIT_CATEGORIES) - 1),
    st.integers(0, len(STAGES) - 1),
    U32,
    U32,
    U32,
    U64,
)
STREAMS = st.builds(StreamEvent, TYPES, *[U32] * 3, *[U64] * 3, st.tuples(*[U32] * wire.GAP_COUNTS))
STAGE_PASSES = st.builds(StageEvent, *[U32] * 3, *[U64] * 3)
DEVICES = st.builds(DeviceEvent, *[U32] * 3, *[U64] * 3)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    REQUESTS, FORWARDS, LAYERS, STACKS, STREAMS, STAGE_PASSES, DEVICES
)
DETAILS = st.builds(
    lambda outcome, *rest: RequestDetail(*outcome, *rest),
    OUTCOMES,
    U32,
    U32,
    U32,
    st.floats(1.0, 1e6),
    U64,
    U64,
    U64,
    SIZES,
    SIZES,
    U64,
    U64,
    st.tuples(*[st.builds(StageTime, U64, U64, U64)] * len(STAGES)),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**128 - 1),
)

_LAYOUTS: dict[type, tuple[Struct, int, tuple[int, ...]]] = {
    RequestEvent: (wire.REQUEST, wire.KIND_REQUEST, ()),
    ForwardEvent: (wire.FORWARD, wire.KIND_FORWARD, ()),
    LayerEvent: (wire.LAYER, wire.KIND_LAYER, (0,)),
    StackEvent: (wire.STACK, wire.KIND_STACK, ()),
    StreamEvent: (wire.STREAM, wire.KIND_STREAM, ()),
    StageEvent: (wire.STAGE, wire.KIND_STAGE, (0,)),
    DeviceEvent: (wire.DEVICE, wire.KIND_DEVICE, (0,)),
}
"""Layout and kind of every event; a 0 where its second field is not used."""


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """A sample of any type, each of its values there or not."""
    sample_type = draw(st.sampled_from(SAMPLE_TYPES))
    values = {name: draw(st.none() | VALUES) for name in wire.sample_fields(sample_type)}
    return sample_type(draw(U64), draw(U32), **values)


def pack_event(sequence: int, event: Event) -> bytes:
    """The slot of an event."""
    layout, kind, spare = _LAYOUTS[type(event)]
    values = [v for value in event for v in (value if isinstance(value, tuple) else (value,))]
    return layout.pack(sequence, kind, *spare, *values, sequence)


def pack_detail(sequence: int, detail: RequestDetail) -> bytes:
    """The slot of a sampled request."""
    status = detail[:2]
    head = detail[2:9]
    sizes = [
        wire.UNKNOWN_BYTES if size is None else size
        for size in (detail.request_bytes, detail.response_bytes)
    ]
    switches = detail.voluntary_switches, detail.involuntary_switches
    stages = [value for stage in detail.stages for value in stage]
    trace = detail.trace_id >> 64, detail.trace_id % 2**64
    values = (*status, detail.flags, *head, *sizes, *switches, *trace, *stages)
    return wire.DETAIL.pack(sequence, wire.KIND_DETAIL, *values, sequence)
