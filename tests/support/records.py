"""Arbitrary records, as Hypothesis strategies and as the bytes of their slots."""

from __future__ import annotations

from hypothesis import strategies as st

from pinchpoint.schema import wire
from pinchpoint.schema.events import (
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StackEvent,
    StageTime,
)
from pinchpoint.schema.samples import SAMPLE_TYPES, Sample
from pinchpoint.schema.terms import GRPC_CODES, GRPC_TYPES, STAGES, WAIT_CATEGORIES

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
SIZES = st.none() | st.integers(0, wire.UNKNOWN_BYTES - 1)
SEQUENCES = st.integers(1, 2**64 - 1)
TYPES = st.integers(0, len(GRPC_TYPES) - 1)
CODES = st.integers(0, len(GRPC_CODES) - 1)
VALUES = st.floats(-wire.SAMPLE_VALUE_MAX, wire.SAMPLE_VALUE_MAX)

REQUESTS = st.builds(
    RequestEvent,
    TYPES,
    CODES,
    st.integers(0, 255),
    *[U32] * 5,
    *[U64] * 8,
)
FORWARDS = st.builds(ForwardEvent, U32, U32, U32, U64, U64, U64)
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
DETAILS = st.builds(
    RequestDetail,
    TYPES,
    CODES,
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
)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """A sample of any type, each of its values there or not."""
    sample_type = draw(st.sampled_from(SAMPLE_TYPES))
    values = {name: draw(st.none() | VALUES) for name in wire.sample_fields(sample_type)}
    return sample_type(draw(U64), draw(U32), **values)


def pack_request(sequence: int, event: RequestEvent) -> bytes:
    """The slot of a finished RPC."""
    return wire.REQUEST.pack(sequence, wire.KIND_REQUEST, *event[:8], 0, *event[8:], sequence)


def pack_forward(sequence: int, event: ForwardEvent) -> bytes:
    """The slot of a forward."""
    return wire.FORWARD.pack(sequence, wire.KIND_FORWARD, 0, *event, sequence)


def pack_layer(sequence: int, event: LayerEvent) -> bytes:
    """The slot of a layer."""
    return wire.LAYER.pack(sequence, wire.KIND_LAYER, 0, *event, sequence)


def pack_stack(sequence: int, event: StackEvent) -> bytes:
    """The slot of a look at a thread."""
    return wire.STACK.pack(sequence, wire.KIND_STACK, *event, sequence)


def pack_detail(sequence: int, detail: RequestDetail) -> bytes:
    """The slot of a sampled RPC."""
    head = detail[:9]
    sizes = [
        wire.UNKNOWN_BYTES if size is None else size
        for size in (detail.request_bytes, detail.response_bytes)
    ]
    switches = detail.voluntary_switches, detail.involuntary_switches
    stages = [value for stage in detail.stages for value in stage]
    return wire.DETAIL.pack(sequence, wire.KIND_DETAIL, *head, *sizes, *switches, *stages, sequence)
