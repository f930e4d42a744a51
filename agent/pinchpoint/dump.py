"""One line of text per record: greppable, stable, and what the tests of the wire compare.

    request source=1 method=/pkg.Service/Do status=OK arrival=12.345678901 queue_ns=1200 ...

Points in time are seconds of CLOCK_MONOTONIC with nine decimals; durations are whole
nanoseconds (`_ns`). Ids are shown as the names they stand for. A value with blanks or control
characters is quoted as in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pinchpoint.schema.events import (
    FLAG_ASYNC,
    FLAG_BEHAVIOUR_CALLED,
    FLAG_DEAD_ON_ARRIVAL,
    FLAG_DESERIALIZE_FAILED,
    FLAG_REJECTED,
    FLAG_RESPONDED,
    FLAG_SERIALIZE_FAILED,
    FLAG_SHARED_FORWARD,
    FORWARD_GRAD,
    FORWARD_OUTSIDE,
    FORWARD_TRAINING,
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StackEvent,
    StageEvent,
    StreamEvent,
)
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import (
    Name,
    NameKind,
    Observation,
    Record,
    RecordsLost,
    SourceClosed,
    SourceOpened,
    Tick,
)
from pinchpoint.schema.samples import Sample
from pinchpoint.schema.terms import CALL_TYPES, STAGES, WAIT_CATEGORIES, status_text
from pinchpoint.schema.wire import sample_fields

_FLAGS = {
    FLAG_BEHAVIOUR_CALLED: "called",
    FLAG_REJECTED: "rejected",
    FLAG_RESPONDED: "responded",
    FLAG_SHARED_FORWARD: "shared_forward",
    FLAG_ASYNC: "async",
    FLAG_DESERIALIZE_FAILED: "deserialize_failed",
    FLAG_SERIALIZE_FAILED: "serialize_failed",
    FLAG_DEAD_ON_ARRIVAL: "dead_on_arrival",
}
_FORWARD_FLAGS = {FORWARD_OUTSIDE: "outside", FORWARD_GRAD: "grad", FORWARD_TRAINING: "training"}

Field = tuple[str, object]


class Dump:
    """Formats observations; learns the names on the way."""

    def __init__(self) -> None:
        self._names = Names()

    def line(self, observation: Observation) -> str:
        """The observation as one line, without its end."""
        source, record = observation
        if isinstance(record, Name):
            self._names.learn(source, record)
        kind, fields = self._describe(source, record)
        text = " ".join(f"{name}={_quoted(str(value))}" for name, value in fields)
        return f"{kind} source={source} {text}"

    def _describe(self, source: int, record: Record) -> tuple[str, Iterator[Field]]:
        if isinstance(record, RequestEvent):
            return "request", self._request(source, record)
        if isinstance(record, RequestDetail):
            return "detail", self._detail(source, record)
        if isinstance(record, ForwardEvent):
            return "forward", self._forward(source, record)
        if isinstance(record, LayerEvent):
            return "layer", self._layer(source, record)
        if isinstance(record, StackEvent):
            return "stack", self._stack(source, record)
        if isinstance(record, StreamEvent):
            return "stream", self._stream(source, record)
        if isinstance(record, StageEvent):
            return "stage", self._stage(source, record)
        if isinstance(record, DeviceEvent):
            return "device", self._device(source, record)
        if isinstance(record, Sample):
            return "sample", self._sample(source, record)
        return _describe_control(record)

    def _request(self, source: int, event: RequestEvent) -> Iterator[Field]:
        text = self._names.text
        yield "method", text(source, event.method_id)
        yield "status", status_text(event.call_type, event.status)
        yield "type", CALL_TYPES[event.call_type]
        yield "flags", _flags(event.flags, _FLAGS)
        yield "arrival", _seconds(event.arrival_ns)
        for name in ("queue_ns", "receive_ns", "handler_ns", "send_ns"):
            yield name, getattr(event, name)
        yield "forwards", event.forwards
        for name in ("preprocess_ns", "batch_wait_ns", "forward_ns", "postprocess_ns"):
            yield name, getattr(event, name)
        yield "batch_size", event.batch_size
        yield "model", text(source, event.model_id)
        yield "server", text(source, event.server_id)

    def _detail(self, source: int, detail: RequestDetail) -> Iterator[Field]:
        yield "method", self._names.text(source, detail.method_id)
        yield "status", status_text(detail.call_type, detail.status)
        yield "type", CALL_TYPES[detail.call_type]
        yield "weight", _number(detail.weight)
        yield "arrival", _seconds(detail.arrival_ns)
        yield "latency_ns", detail.latency_ns
        yield "gc_ns", detail.gc_ns
        for name in ("request_bytes", "response_bytes"):
            value = getattr(detail, name)
            if value is not None:
                yield name, value
        yield "voluntary_switches", detail.voluntary_switches
        yield "involuntary_switches", detail.involuntary_switches
        yield "batch_size", detail.batch_size
        yield "model", self._names.text(source, detail.model_id)
        for stage, time in zip(STAGES, detail.stages, strict=True):
            if any(time):
                yield stage, "/".join(map(str, time))

    def _forward(self, source: int, event: ForwardEvent) -> Iterator[Field]:
        yield "model", self._names.text(source, event.model_id)
        yield "device", self._names.text(source, event.device_id)
        yield "flags", _flags(event.flags, _FORWARD_FLAGS)
        yield "start", _seconds(event.start_ns)
        yield "wall_ns", event.wall_ns
        yield "batch_size", event.batch_size
        yield "thread", event.thread_id

    def _layer(self, source: int, event: LayerEvent) -> Iterator[Field]:
        yield "model", self._names.text(source, event.model_id)
        yield "layer", self._names.text(source, event.layer_id)
        yield "time", _seconds(event.time_ns)
        yield "calls", event.calls
        yield "cpu_ns", event.cpu_ns
        yield "wall_ns", event.wall_ns
        yield "forward", event.sample_id

    def _stack(self, source: int, event: StackEvent) -> Iterator[Field]:
        yield "category", WAIT_CATEGORIES[event.category]
        yield "stage", STAGES[event.stage]
        yield "time", _seconds(event.time_ns)
        yield "thread", event.thread_id
        yield "method", self._names.text(source, event.method_id)
        yield "location", self._names.text(source, event.location_id)

    def _stream(self, source: int, event: StreamEvent) -> Iterator[Field]:
        yield "method", self._names.text(source, event.method_id)
        yield "type", CALL_TYPES[event.call_type]
        yield "time", _seconds(event.time_ns)
        for name in ("received", "sent", "first_message_ns", "gap_ns"):
            yield name, getattr(event, name)
        yield "gaps", "/".join(map(str, event.gaps))

    def _stage(self, source: int, event: StageEvent) -> Iterator[Field]:
        yield "name", self._names.text(source, event.stage_id)
        yield "method", self._names.text(source, event.method_id)
        yield "time", _seconds(event.time_ns)
        yield "thread", event.thread_id
        yield "wall_ns", event.wall_ns
        yield "self_ns", event.self_ns

    def _device(self, source: int, event: DeviceEvent) -> Iterator[Field]:
        yield "model", self._names.text(source, event.model_id)
        yield "device", self._names.text(source, event.device_id)
        yield "start", _seconds(event.start_ns)
        yield "host_ns", event.host_ns
        yield "device_ns", event.device_ns
        yield "batch_size", event.batch_size

    def _sample(self, source: int, sample: Sample) -> Iterator[Field]:
        yield "type", type(sample).__name__
        yield "time", _seconds(sample.time_ns)
        if sample.instance:
            yield "instance", self._names.text(source, sample.instance)
        for name in sample_fields(type(sample)):
            value = getattr(sample, name)
            if value is None:
                continue
            if name.endswith("_id"):
                yield name.removesuffix("_id"), self._names.text(source, value)
            else:
                yield name, _number(value)


def _describe_control(
    record: Name | SourceOpened | SourceClosed | RecordsLost | Tick,
) -> tuple[str, Iterator[Field]]:
    if isinstance(record, Name):
        kind = NameKind(record.kind).name if record.kind in set(NameKind) else record.kind
        fields = [("id", record.name_id), ("kind", kind), ("detail", record.detail)]
        return "name", iter([*fields, ("text", record.text)])
    time = ("time", _seconds(record.time_ns))
    if isinstance(record, SourceOpened):
        rest = [("process", record.process_id), ("offset_ns", record.offset_ns)]
        return "opened", iter([time, *rest])
    if isinstance(record, RecordsLost):
        return "lost", iter([time, ("reason", record.reason), ("count", record.count)])
    if isinstance(record, Tick):
        return "tick", iter([time, ("wall", _seconds(record.wall_ns))])
    return "closed", iter([time])


def _flags(flags: int, texts: Mapping[int, str]) -> str:
    return ",".join(text for bit, text in texts.items() if flags & bit) or "none"


def _seconds(nanoseconds: int) -> str:
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{whole}.{rest:09d}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _quoted(text: str) -> str:
    plain = text.isprintable() and not any(character in ' "=\\' for character in text)
    return text if plain and text else json.dumps(text)
