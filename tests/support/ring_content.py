"""A ring with one record of each kind, all values chosen, for tests of what reads rings."""

from __future__ import annotations

from pathlib import Path

from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema import wire
from pinchpoint.schema.events import (
    FLAG_ASYNC,
    FLAG_BEHAVIOUR_CALLED,
    FLAG_RESPONDED,
    FLAG_SHARED_FORWARD,
    FORWARD_GRAD,
    FORWARD_OUTSIDE,
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
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import CgroupCpuSample, LoopSample, ModelSample
from pinchpoint.schema.terms import CATEGORY_INDEX, HTTP, HTTP_STREAM, STAGE_INDEX, STAGES, UNARY
from tests.support.records import pack_detail, pack_event

SLOT_COUNTS = (64, 16, 16)
ARRIVAL_NS = 12_345_678_901


def write_event(ring: RingWriter, event: Event) -> None:
    """Append an event."""
    sequence = ring.claim_event()
    offset = ring.event_offset + ((sequence - 1) & ring.event_mask) * wire.EVENT_BYTES
    ring.buffer[offset : offset + wire.EVENT_BYTES] = pack_event(sequence, event)


def write_request(ring: RingWriter, method: int, arrival_ns: int = ARRIVAL_NS) -> None:
    """Append a request that waited 1.2 us and was handled in 3 ms."""
    flags = FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED | FLAG_SHARED_FORWARD
    write_event(
        ring,
        RequestEvent(
            UNARY, 0, flags, method, 0, 0, 4, 1,
            arrival_ns, 1_200, 300, 3_000_000, 400, 700_000, 300_000, 1_500_000, 500_000,
        ),
    )  # fmt: skip


def write_detail(ring: RingWriter, method: int) -> None:
    """Append a sampled request with three stages."""
    stages = [StageTime(0, 0, 0)] * len(STAGES)
    stages[STAGE_INDEX["preprocess"]] = StageTime(1_000, 900, 50)
    stages[STAGE_INDEX["batch_wait"]] = StageTime(100, 0, 0)
    stages[STAGE_INDEX["forward"]] = StageTime(2_000, 1_900, 0)
    detail = RequestDetail(
        UNARY, 4, method, 0, 4, 3.0, ARRIVAL_NS, 3_100, 7, 600, None, 3, 1, tuple(stages)
    )
    sequence = ring.claim_detail()
    offset = ring.detail_offset + ((sequence - 1) & ring.detail_mask) * wire.DETAIL_BYTES
    ring.buffer[offset : offset + wire.DETAIL_BYTES] = pack_detail(sequence, detail)


def write_ring(directory: Path) -> RingWriter:
    """Make a ring with one record of each kind. The caller closes it."""
    ring = RingWriter(directory, SLOT_COUNTS)
    method = ring.intern(NameKind.METHOD, "/pkg.Svc/Do")
    model = ring.intern(NameKind.MODEL, "Net")
    layer = ring.intern(NameKind.LAYER, 'a "b"\n')
    location = ring.intern(NameKind.LOCATION, "app/server.py:7 handle -> get")
    cpu = ring.intern(NameKind.DEVICE, "cpu")
    route = ring.intern(NameKind.METHOD, "GET /items/{item_id}", HTTP)
    stage = ring.intern(NameKind.STAGE, "tokenise")
    write_request(ring, method)
    for event in (
        RequestEvent(HTTP, 404, FLAG_ASYNC, route, 0, 0, 0, 0, ARRIVAL_NS, 0, 0, 0, 0, 0, 0, 0, 0),
        ForwardEvent(FORWARD_OUTSIDE | FORWARD_GRAD, model, cpu, 4, 77, ARRIVAL_NS, 1_500_000),
        LayerEvent(model, layer, 2, 5, ARRIVAL_NS, 900, 1_000),
        StackEvent(
            CATEGORY_INDEX["client"], STAGE_INDEX["handler"], 77, method, location, ARRIVAL_NS
        ),
        StreamEvent(
            HTTP_STREAM, route, 0, 4, ARRIVAL_NS, 2_000_000, 30_000_000, (*[0] * 6, 3, *[0] * 10)
        ),
        StageEvent(stage, method, 77, ARRIVAL_NS, 50_000, 40_000),
        DeviceEvent(model, cpu, 4, ARRIVAL_NS, 200_000, 1_400_000),
    ):
        write_event(ring, event)
    write_detail(ring, method)
    ring.write_sample(CgroupCpuSample(ARRIVAL_NS, 0, version=2, limit_cores=1.5))
    ring.write_sample(ModelSample(ARRIVAL_NS, model, device_id=cpu, parameters=10))
    ring.write_sample(LoopSample(ARRIVAL_NS, 0, beats=10, lag_ns=5e6, lag_0=9, lag_16=1))
    return ring
