"""A ring with one record of each kind, all values chosen, for tests of what reads rings."""

from __future__ import annotations

from pathlib import Path
from struct import Struct

from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema import wire
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import CgroupCpuSample, ModelSample
from pinchpoint.schema.terms import STAGE_INDEX, STAGES

SLOT_COUNTS = (64, 16, 16)
ARRIVAL_NS = 12_345_678_901


def write_event(ring: RingWriter, packed: Struct, *values: int) -> None:
    """Append an event given as the values between its sequence numbers."""
    sequence = ring.claim_event()
    offset = ring.event_offset + ((sequence - 1) & ring.event_mask) * wire.EVENT_BYTES
    packed.pack_into(ring.buffer, offset, sequence, *values, sequence)


def write_request(ring: RingWriter, method: int, arrival_ns: int = ARRIVAL_NS) -> None:
    """Append a request that waited 1.2 us and was handled in 3 ms."""
    write_event(
        ring, wire.REQUEST, wire.KIND_REQUEST, 0, 0, 1, method, 0, 0, 4, 1, 0,
        arrival_ns, 1_200, 300, 3_000_000, 400, 1_000_000, 1_500_000, 500_000,
    )  # fmt: skip


def write_detail(ring: RingWriter, method: int) -> None:
    """Append a sampled request with two stages."""
    times = [0] * (3 * len(STAGES))
    for stage, split in (("preprocess", (1_000, 900, 50)), ("forward", (2_000, 1_900, 0))):
        place = 3 * STAGE_INDEX[stage]
        times[place : place + 3] = split
    sequence = ring.claim_detail()
    wire.DETAIL.pack_into(
        ring.buffer,
        ring.detail_offset + ((sequence - 1) & ring.detail_mask) * wire.DETAIL_BYTES,
        sequence, wire.KIND_DETAIL, 0, 4, method, 0, 4, 2.5, ARRIVAL_NS, 3_100, 7,
        600, wire.UNKNOWN_BYTES, 3, 1, *times, sequence,
    )  # fmt: skip


def write_ring(directory: Path) -> RingWriter:
    """Make a ring with one record of each kind. The caller closes it."""
    ring = RingWriter(directory, SLOT_COUNTS)
    method = ring.intern(NameKind.METHOD, "/pkg.Svc/Do")
    model = ring.intern(NameKind.MODEL, "Net")
    layer = ring.intern(NameKind.LAYER, 'a "b"\n')
    location = ring.intern(NameKind.LOCATION, "app/server.py:7 handle -> get")
    cpu = ring.intern(NameKind.DEVICE, "cpu")
    write_request(ring, method)
    write_event(ring, wire.FORWARD, wire.KIND_FORWARD, 0, model, cpu, 4, 77, ARRIVAL_NS, 1_500_000)
    write_event(ring, wire.LAYER, wire.KIND_LAYER, 0, model, layer, 2, 5, ARRIVAL_NS, 900, 1_000)
    write_event(ring, wire.STACK, wire.KIND_STACK, 1, 7, 77, method, location, ARRIVAL_NS)
    write_detail(ring, method)
    ring.write_sample(CgroupCpuSample(ARRIVAL_NS, 0, version=2, limit_cores=1.5))
    ring.write_sample(ModelSample(ARRIVAL_NS, model, device_id=cpu, parameters=10))
    return ring
