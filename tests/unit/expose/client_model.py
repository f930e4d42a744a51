"""What scrapers read: messages of `io.prometheus.client`, by Google's own implementation."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, proto
from grpc_tools import protoc

PROTO = """
syntax = "proto2";
package io.prometheus.client;
message LabelPair { optional string name = 1; optional string value = 2; }
enum MetricType { COUNTER = 0; GAUGE = 1; SUMMARY = 2; UNTYPED = 3; HISTOGRAM = 4; }
message Gauge { optional double value = 1; }
message Counter { optional double value = 1; optional Exemplar exemplar = 2; }
message Time { optional int64 seconds = 1; optional int32 nanos = 2; }
message Exemplar {
  repeated LabelPair label = 1; optional double value = 2; optional Time timestamp = 3;
}
message Bucket {
  optional uint64 cumulative_count = 1; optional double upper_bound = 2;
  optional Exemplar exemplar = 3;
}
message BucketSpan { optional sint32 offset = 1; optional uint32 length = 2; }
message Histogram {
  optional uint64 sample_count = 1;
  optional double sample_sum = 2;
  repeated Bucket bucket = 3;
  optional sint32 schema = 5;
  optional double zero_threshold = 6;
  optional uint64 zero_count = 7;
  repeated BucketSpan positive_span = 12;
  repeated sint64 positive_delta = 13;
}
message Metric {
  repeated LabelPair label = 1; optional Gauge gauge = 2; optional Counter counter = 3;
  optional Histogram histogram = 7;
}
message MetricFamily {
  optional string name = 1; optional string help = 2; optional MetricType type = 3;
  repeated Metric metric = 4;
}
"""


class ClientModel:
    """The messages, compiled in a directory."""

    def __init__(self, directory: Path) -> None:
        (directory / "metrics.proto").write_text(PROTO)
        files = directory / "metrics.pb"
        arguments = ["protoc", f"-I{directory}", f"--descriptor_set_out={files}", "metrics.proto"]
        assert protoc.main(arguments) == 0
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(files.read_bytes()).file:
            pool.Add(file)
        found = pool.FindMessageTypeByName("io.prometheus.client.MetricFamily")
        self._family = message_factory.GetMessageClass(found)

    def families(self, delimited: bytes) -> Iterator[Any]:
        """The families of a scrape; all bytes of it, and every field known."""
        stream = BytesIO(delimited)
        while (family := proto.parse_length_prefixed(self._family, stream)) is not None:
            assert _known(family)
            yield family


def _known(family: Any) -> bool:
    """Whether nothing was read that the messages do not have."""
    copy = type(family)()
    copy.CopyFrom(family)
    copy.DiscardUnknownFields()
    return bool(copy.ByteSize() == family.ByteSize())


def samples(families: Iterator[Any]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The same samples that the text format has."""
    found = {}
    for family in families:
        for metric in family.metric:
            labels = frozenset((pair.name, pair.value) for pair in metric.label)
            if family.type == 4:
                histogram = metric.histogram
                found[family.name + "_count", labels] = float(histogram.sample_count)
                found[family.name + "_sum", labels] = histogram.sample_sum
                for bucket in histogram.bucket:
                    bound = repr(bucket.upper_bound).replace("inf", "+Inf")
                    with_bound = labels | {("le", bound)}
                    found[family.name + "_bucket", with_bound] = float(bucket.cumulative_count)
            else:
                simple = metric.counter if family.type == 0 else metric.gauge
                found[family.name, labels] = simple.value
    return found


def native_buckets(histogram: Any) -> dict[int, int]:
    """Counts by index, as a scraper takes them from spans and deltas."""
    counts, index, count = {}, 0, 0
    deltas = iter(histogram.positive_delta)
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            counts[index] = count
            index += 1
    assert not list(deltas)
    return counts
