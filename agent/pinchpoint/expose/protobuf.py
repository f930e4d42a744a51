"""Delimited `io.prometheus.client.MetricFamily` messages, the one format with native histograms.

prometheus_client has no protobuf, and the `protobuf` package with its generated code would be a
large dependency for five messages; numbers and types of fields are those of
https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.openmetrics.exposition import escape_label_name, escape_metric_name

from pinchpoint.expose.collect import Filled
from pinchpoint.expose.family import Labels
from pinchpoint.snapshot import ZERO_THRESHOLD, Exemplar, Histogram, NativeBuckets

_KINDS = {"counter": 0, "gauge": 1, "histogram": 4}
_VALUE_FIELDS = {"counter": 3, "gauge": 2, "histogram": 7}
"""Of a metric, by its family's kind."""


def encode(families: Iterable[Filled], escaping: str) -> bytes:
    """The families, each after its length."""
    return b"".join(_delimited(_family(filled, escaping)) for filled in families)


def _family(filled: Filled, escaping: str) -> bytes:
    family, points = filled
    name = family.name + "_total" if family.kind == "counter" else family.name
    names = [escape_label_name(label, escaping) for label in family.labels]
    parts = [
        _text(1, escape_metric_name(name, escaping)),
        _text(2, family.help),
        _unsigned(3, _KINDS[family.kind]),
    ]
    for labels, value in points:
        body = _histogram(value) if isinstance(value, Histogram) else _double(1, value)
        metric = _labels(names, labels) + _message(_VALUE_FIELDS[family.kind], body)
        parts.append(_message(4, metric))
    return b"".join(parts)


def _labels(names: Sequence[str], values: Labels) -> bytes:
    pairs = zip(names, values, strict=True)
    return b"".join(_message(1, _text(1, name) + _text(2, value)) for name, value in pairs)


def _histogram(histogram: Histogram) -> bytes:
    parts = [_unsigned(1, histogram.count), _double(2, histogram.sum)]
    bounds = (*histogram.bounds, float("inf"))
    exemplars: Sequence[Exemplar | None] = histogram.exemplars or [None] * len(bounds)
    total = 0
    for bound, count, exemplar in zip(bounds, histogram.counts, exemplars, strict=True):
        total += count
        bucket = _unsigned(1, total) + _double(2, bound)
        if exemplar is not None:
            bucket += _message(3, _exemplar(exemplar))
        parts.append(_message(3, bucket))
    if histogram.native is not None:
        parts += _native(histogram.native)
    return b"".join(parts)


def _exemplar(exemplar: Exemplar) -> bytes:
    seconds, fraction = divmod(exemplar.wall_seconds, 1.0)
    timestamp = _unsigned(1, int(seconds)) + _unsigned(2, int(fraction * 1e9))
    label = _message(1, _text(1, "trace_id") + _text(2, exemplar.trace_id))
    return label + _double(2, exemplar.value) + _message(3, timestamp)


def _native(native: NativeBuckets) -> Iterator[bytes]:
    """Schema, zero bucket, then runs of neighbouring buckets and the steps from count to count."""
    yield _signed(5, native.schema)
    yield _double(6, ZERO_THRESHOLD)
    yield _unsigned(7, native.zero_count)
    deltas = b""
    end = previous = 0
    for start, counts in _runs(native):
        yield _message(12, _signed(1, start - end) + _unsigned(2, len(counts)))
        end = start + len(counts)
        for count in counts:
            deltas += _signed(13, count - previous)
            previous = count
    yield deltas


def _runs(native: NativeBuckets) -> list[tuple[int, list[int]]]:
    """Index of the first and counts of all buckets of each run."""
    runs: list[tuple[int, list[int]]] = []
    for index, count in sorted(native.counts.items()):
        if runs and index == runs[-1][0] + len(runs[-1][1]):
            runs[-1][1].append(count)
        else:
            runs.append((index, [count]))
    return runs


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _delimited(body)


def _delimited(body: bytes) -> bytes:
    return _varint(len(body)) + body


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _unsigned(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _signed(field: int, value: int) -> bytes:
    """Zigzag: 0, -1, 1, -2 are 0, 1, 2, 3."""
    return _unsigned(field, value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
