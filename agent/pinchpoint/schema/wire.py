"""The bytes of the record. The only file that knows an offset.

Rules of the format:

* Three kinds of slot, each of a fixed size, each with its sequence number in its first
  and again in its last eight bytes. A writer stores them in that order with a single
  `pack_into`; a reader compares last, body, first. A slot whose two numbers differ is
  being written (or was torn by a crash) and is not a record.
* Sequence numbers start at 1 and never repeat in a file: 0 means "never written".
* Native byte order and alignment: every field sits on its own boundary, so that each is
  one store on the writer's CPU. Ring and reader share a machine; a recording states its
  byte order through its magic number.
* Durations and times are unsigned 64-bit nanoseconds: no unit conversion, no overflow
  in 584 years. Sample values are doubles with a presence bit each: a None stays a None.
* Names are interned once in an append-only table, so a reader that attaches late still
  resolves every id. Id 0 is `_OTHER`.

What would break: changing a struct, the order of `SAMPLE_TYPES`, of a sample's fields or
of a vocabulary in `terms` without raising `VERSION`.

    event slot, 128 bytes      | seq | kind, ... | body ...                 | seq |
    detail slot, 512 bytes     | seq | kind, ... | body ...                 | seq |
    name slot, 256 bytes       | seq | kind, detail, length | text (UTF-8)  | seq |
"""

from __future__ import annotations

import struct
from dataclasses import fields
from enum import IntEnum
from typing import NamedTuple

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
from pinchpoint.schema.observations import Name
from pinchpoint.schema.samples import SAMPLE_TYPES, Sample
from pinchpoint.schema.terms import (
    CALL_TYPES,
    GAP_BOUNDS_NS,
    GRPC_CODES,
    GRPC_TYPES,
    STAGES,
    STATUS_MAX,
    WAIT_CATEGORIES,
)

VERSION = 3


class InvalidRecordError(ValueError):
    """The bytes are no record of this version."""


class Segment(IntEnum):
    """The three areas of a ring."""

    EVENTS = 0
    DETAILS = 1
    NAMES = 2


EVENT_BYTES = 128
DETAIL_BYTES = 512
NAME_BYTES = 256
SLOT_BYTES = (EVENT_BYTES, DETAIL_BYTES, NAME_BYTES)

SEQUENCE = struct.Struct("@Q")

KIND_REQUEST = 1
KIND_FORWARD = 2
KIND_LAYER = 3
KIND_STACK = 4
KIND_DETAIL = 5
KIND_SAMPLE = 6
KIND_STREAM = 7
KIND_STAGE = 8
KIND_DEVICE = 9

_KIND = struct.Struct("@8xH")

# seq | kind, call_type, status, flags | method, model | server, batch | forwards, pad
# | arrival, queue, receive, handler, send, preprocess, batch_wait, forward, postprocess | pad | seq
REQUEST = struct.Struct("@QHHHHIIIII4xQQQQQQQQQ8xQ")
# The same with zeros where no forward was seen: half the arguments of the common case.
PLAIN_REQUEST = struct.Struct("@QHHHHI4xI12xQQQQQ40xQ")
FORWARD = struct.Struct("@QHHIIIQQQ72xQ")
LAYER = struct.Struct("@QHHIIIQQQQ64xQ")
STACK = struct.Struct("@QHBBIIIQ88xQ")
GAP_COUNTS = len(GAP_BOUNDS_NS) + 1
# seq | kind, call_type, method | received, sent | time, first, gap sum | counts | pad | seq
STREAM = struct.Struct(f"@QHHIIIQQQ{GAP_COUNTS}I4xQ")
STAGE = struct.Struct("@QHHIIIQQQ72xQ")
DEVICE = struct.Struct("@QHHIIIQQQ72xQ")

UNKNOWN_BYTES = 2**64 - 1
"""The size of a message that nothing of ours has seen."""

STAGE_COUNT = len(STAGES)
# seq | kind, call_type, status, flags | method, model | batch, pad | weight, arrival, latency, gc,
# request bytes, response bytes, switches x2, trace id x2 | (wall, cpu, runqueue) per stage
# | pad | seq
_DETAIL_HEAD = "@QHHHHIIIdQQQQQQQQQ"
_DETAIL_PAD = DETAIL_BYTES - 8 - struct.calcsize(_DETAIL_HEAD) - STAGE_COUNT * 24
DETAIL = struct.Struct(f"{_DETAIL_HEAD}{STAGE_COUNT * 3}Q{_DETAIL_PAD}xQ")

SAMPLE_VALUES_MAX = 48
SAMPLE_VALUE_MAX = 2.0**64
"""Counters are unsigned 64-bit at their source; anything larger (or no number) is damage."""
_SAMPLE_HEAD = "@QHHIQQ"
_SAMPLE_PAD = DETAIL_BYTES - 8 - struct.calcsize(_SAMPLE_HEAD) - SAMPLE_VALUES_MAX * 8
SAMPLE = struct.Struct(f"{_SAMPLE_HEAD}{SAMPLE_VALUES_MAX}d{_SAMPLE_PAD}xQ")

NAME_TEXT_BYTES = 224
NAME = struct.Struct(f"@QHHI{NAME_TEXT_BYTES}s8xQ")

for _struct, _size in (
    (REQUEST, EVENT_BYTES),
    (PLAIN_REQUEST, EVENT_BYTES),
    (FORWARD, EVENT_BYTES),
    (LAYER, EVENT_BYTES),
    (STACK, EVENT_BYTES),
    (STREAM, EVENT_BYTES),
    (STAGE, EVENT_BYTES),
    (DEVICE, EVENT_BYTES),
    (DETAIL, DETAIL_BYTES),
    (SAMPLE, DETAIL_BYTES),
    (NAME, NAME_BYTES),
):
    assert _struct.size == _size, (_struct.format, _struct.size, _size)

_SAMPLE_CODES = {sample_type: code for code, sample_type in enumerate(SAMPLE_TYPES)}
_SAMPLE_FIELDS = {
    sample_type: tuple(f.name for f in fields(sample_type))[2:] for sample_type in SAMPLE_TYPES
}
assert all(len(names) <= SAMPLE_VALUES_MAX for names in _SAMPLE_FIELDS.values())


class SampleFrame(NamedTuple):
    """A sample ready for `SAMPLE.pack_into`, its sequence number left out."""

    code: int
    instance: int
    time_ns: int
    presence: int
    values: tuple[float, ...]


def sample_fields(sample_type: type[Sample]) -> tuple[str, ...]:
    """The value fields of a sample type, in wire order."""
    return _SAMPLE_FIELDS[sample_type]


def unsound_fields(sample: Sample) -> list[str]:
    """Fields that can be no reading: below 0, above what a record holds, NaN."""
    values = ((name, getattr(sample, name)) for name in _SAMPLE_FIELDS[type(sample)])
    return [n for n, v in values if v is not None and not 0 <= v <= SAMPLE_VALUE_MAX]


def sample_frame(sample: Sample) -> SampleFrame:
    """A sample's values as the wire holds them."""
    presence = 0
    values: list[float] = []
    for bit, name in enumerate(_SAMPLE_FIELDS[type(sample)]):
        value = getattr(sample, name)
        if value is not None:
            presence |= 1 << bit
        values.append(float(value or 0))
    values.extend([0.0] * (SAMPLE_VALUES_MAX - len(values)))
    return SampleFrame(
        _SAMPLE_CODES[type(sample)], sample.instance, sample.time_ns, presence, tuple(values)
    )


def pack_sample(sequence: int, sample: Sample) -> bytes:
    """A sample as the bytes of a detail slot."""
    frame = sample_frame(sample)
    return SAMPLE.pack(
        sequence,
        KIND_SAMPLE,
        frame.code,
        frame.instance,
        frame.time_ns,
        frame.presence,
        *frame.values,
        sequence,
    )


def name_text(text: str) -> bytes:
    """The bytes stored for a name: UTF-8, cut at a character that fits."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= NAME_TEXT_BYTES:
        return encoded
    return encoded[:NAME_TEXT_BYTES].decode("utf-8", "ignore").encode("utf-8")


def _check_outcome(call_type: int, status: int) -> None:
    statuses = len(GRPC_CODES) if call_type < len(GRPC_TYPES) else STATUS_MAX + 1
    if call_type >= len(CALL_TYPES) or status >= statuses:
        raise InvalidRecordError("request with an unknown type or status")


def unpack_event(slot: bytes) -> Event:
    """The event in a slot.

    Raises:
        InvalidRecordError: the kind or an index is unknown. Hostile bytes end here.
    """
    if len(slot) != EVENT_BYTES:
        raise InvalidRecordError("not the size of an event slot")
    (kind,) = _KIND.unpack_from(slot)
    if kind == KIND_REQUEST:
        fields_of = REQUEST.unpack(slot)[2:-1]
        _check_outcome(*fields_of[:2])
        return RequestEvent(*fields_of)
    if kind == KIND_FORWARD:
        return ForwardEvent(*FORWARD.unpack(slot)[2:-1])
    if kind == KIND_LAYER:
        _, _, _, model, layer, calls, sample, time, cpu, wall, _ = LAYER.unpack(slot)
        return LayerEvent(model, layer, calls, sample, time, cpu, wall)
    if kind == KIND_STACK:
        _, _, category, stage, thread, method, location, time, _ = STACK.unpack(slot)
        if category >= len(WAIT_CATEGORIES) or stage >= STAGE_COUNT:
            raise InvalidRecordError("stack with an unknown category or stage")
        return StackEvent(category, stage, thread, method, location, time)
    if kind == KIND_STREAM:
        values = STREAM.unpack(slot)[2:-1]
        if values[0] >= len(CALL_TYPES):
            raise InvalidRecordError("stream of an unknown type")
        call_type, method, received, sent, time, first, gap = values[:-GAP_COUNTS]
        gaps = tuple(values[-GAP_COUNTS:])
        return StreamEvent(call_type, method, received, sent, time, first, gap, gaps)
    if kind == KIND_STAGE:
        return StageEvent(*STAGE.unpack(slot)[3:-1])
    if kind == KIND_DEVICE:
        return DeviceEvent(*DEVICE.unpack(slot)[3:-1])
    raise InvalidRecordError(f"unknown event kind {kind}")


def unpack_detail(slot: bytes) -> RequestDetail | Sample:
    """The sampled request or the sample in a detail slot.

    Raises:
        InvalidRecordError: as `unpack_event`.
    """
    if len(slot) != DETAIL_BYTES:
        raise InvalidRecordError("not the size of a detail slot")
    (kind,) = _KIND.unpack_from(slot)
    if kind == KIND_DETAIL:
        values = DETAIL.unpack(slot)
        _, _, call_type, status, flags, method, model, batch, weight = values[:9]
        arrival, latency, gc, received, sent, voluntary, involuntary = values[9:16]
        trace_high, trace_low = values[16:18]
        _check_outcome(call_type, status)
        if not 1.0 <= weight <= 1e6:
            raise InvalidRecordError("detail with an impossible weight")
        times = values[18 : 18 + STAGE_COUNT * 3]
        stages = tuple(StageTime(*times[i : i + 3]) for i in range(0, STAGE_COUNT * 3, 3))
        return RequestDetail(
            call_type, status, method, model, batch, weight, arrival, latency, gc,
            None if received == UNKNOWN_BYTES else received,
            None if sent == UNKNOWN_BYTES else sent,
            voluntary, involuntary, stages, flags, trace_high << 64 | trace_low,
        )  # fmt: skip
    if kind == KIND_SAMPLE:
        frame = SAMPLE.unpack(slot)
        _, _, code, instance, time, presence = frame[:6]
        if code >= len(SAMPLE_TYPES):
            raise InvalidRecordError(f"unknown sample type {code}")
        sample_type = SAMPLE_TYPES[code]
        given: dict[str, float] = {}
        for bit, name in enumerate(_SAMPLE_FIELDS[sample_type]):
            if presence >> bit & 1:
                value = frame[6 + bit]
                if not abs(value) <= SAMPLE_VALUE_MAX:
                    raise InvalidRecordError(f"{sample_type.__name__}.{name} is no reading")
                given[name] = value
        sample: Sample = sample_type(time, instance, **given)
        return sample
    raise InvalidRecordError(f"unknown detail kind {kind}")


def unpack_name(slot: bytes) -> Name:
    """The name in a slot; its id is the slot's sequence number.

    Raises:
        InvalidRecordError: the length is impossible.
    """
    if len(slot) != NAME_BYTES:
        raise InvalidRecordError("not the size of a name slot")
    sequence, kind, detail, length, text, _ = NAME.unpack(slot)
    if length > NAME_TEXT_BYTES:
        raise InvalidRecordError("name longer than its slot")
    return Name(sequence, kind, detail, text[:length].decode("utf-8", "replace"))
