"""What happened in the last seconds: requests, looks at threads, and sample series."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from pinchpoint.detect.thresholds import WINDOW_NS
from pinchpoint.schema.events import (
    FLAG_REJECTED,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StackEvent,
)
from pinchpoint.schema.names import Names
from pinchpoint.schema.samples import Sample
from pinchpoint.schema.terms import ONE_RESPONSE

REQUESTS_MAX = 20_000
DETAILS_MAX = 4_000
"""Bounds of memory. Above 2,000 requests a second the window holds the newest only."""

SampleT = TypeVar("SampleT", bound=Sample)


class Completed(NamedTuple):
    """A finished request on the reader's clock. Its times are computed once: it is looked at in
    every second of the window."""

    end_ns: int
    arrival_ns: int
    latency_ns: int
    service_ns: int
    event: RequestEvent


class Sampled(NamedTuple):
    """A sampled request with the time it ended."""

    end_ns: int
    detail: RequestDetail

    @property
    def arrival_ns(self) -> int:
        """When it came, on the reader's clock."""
        return self.end_ns - self.detail.latency_ns


class Look(NamedTuple):
    """A look at one request thread."""

    time_ns: int
    event: StackEvent
    location: str


class Layer(NamedTuple):
    """A layer's own time in a sampled forward."""

    time_ns: int
    model: str
    name: str
    event: LayerEvent


SeriesKey = tuple[int, type[Sample], int]


class Window:
    """Everything of the last `WINDOW_NS`, by the time it ended or was read.

    Of requests only those with one response that were served: a stream lasts as long as its
    client likes, and most of it is waiting for the next message.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self.requests: deque[Completed] = deque(maxlen=REQUESTS_MAX)
        self.details: deque[Sampled] = deque(maxlen=DETAILS_MAX)
        self.looks: deque[Look] = deque(maxlen=DETAILS_MAX)
        self.layers: deque[Layer] = deque(maxlen=REQUESTS_MAX)
        self._series: dict[SeriesKey, deque[Sample]] = {}
        self._offsets: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self.now_ns = 0

    def open_source(self, source: int, offset_ns: int) -> None:
        """A source's times plus `offset_ns` are ours."""
        self._offsets[source] = offset_ns

    def close_source(self, source: int) -> None:
        """A source is gone: its gauges no longer speak for the service."""
        self._offsets.pop(source, None)
        self._heard.pop(source, None)
        for key in [key for key in self._series if key[0] == source]:
            del self._series[key]

    def add(
        self, source: int, record: RequestEvent | RequestDetail | StackEvent | LayerEvent | Sample
    ) -> None:
        """Take in a record of a source."""
        offset = self._offsets.get(source, 0)
        if source in self._offsets:
            self._heard[source] = self.now_ns
        if isinstance(record, RequestEvent):
            if record.call_type in ONE_RESPONSE and not record.flags & FLAG_REJECTED:
                service_ns = record.service_ns
                latency_ns = record.queue_ns + service_ns
                arrival_ns = record.arrival_ns + offset
                end_ns = arrival_ns + latency_ns
                self.requests.append(Completed(end_ns, arrival_ns, latency_ns, service_ns, record))
        elif isinstance(record, RequestDetail):
            if record.call_type in ONE_RESPONSE:
                end_ns = record.arrival_ns + record.latency_ns + offset
                self.details.append(Sampled(end_ns, record))
        elif isinstance(record, StackEvent):
            if not self.has_one_response(source, record.method_id):
                return
            location = self._names.text(source, record.location_id)
            self.looks.append(Look(record.time_ns + offset, record, location))
        elif isinstance(record, LayerEvent):
            model = self._names.text(source, record.model_id)
            layer = self._names.text(source, record.layer_id)
            self.layers.append(Layer(record.time_ns + offset, model, layer, record))
        else:
            key = (source, type(record), record.instance)
            self._series.setdefault(key, deque(maxlen=64)).append(record)

    def advance(self, now_ns: int) -> None:
        """Move to `now_ns` and drop what is older than the window."""
        self.now_ns = now_ns
        begin_ns = now_ns - WINDOW_NS
        for entries in (self.requests, self.details, self.looks, self.layers):
            _drop(entries, begin_ns, now_ns + WINDOW_NS)
        for key, series in list(self._series.items()):
            offset = self._offsets.get(key[0], 0)
            while series and not begin_ns <= series[0].time_ns + offset <= now_ns + WINDOW_NS:
                series.popleft()
            if not series:
                del self._series[key]

    @property
    def attached(self) -> bool:
        """Whether any serving process is attached."""
        return bool(self._offsets)

    def silent_ns(self) -> int:
        """How long the longest-silent open source has said nothing; 0 without sources."""
        return max((self.now_ns - heard for heard in self._heard.values()), default=0)

    def series(self, sample_type: type[SampleT]) -> Iterable[tuple[int, int, list[SampleT]]]:
        """`(source, instance, samples in order)` of every series of a type."""
        for (source, kind, instance), series in self._series.items():
            if kind is sample_type:
                yield source, instance, [s for s in series if isinstance(s, sample_type)]

    def has_one_response(self, source: int, method_id: int) -> bool:
        """Whether a method answers at once, as far as its name has been learnt."""
        method = self._names.get(source, method_id)
        return method is None or method.detail in ONE_RESPONSE

    def name(self, source: int, instance: int) -> str:
        """The text of a name of a source."""
        return self._names.text(source, instance)


def _drop(
    entries: deque[Completed] | deque[Sampled] | deque[Look] | deque[Layer],
    begin_ns: int,
    end_ns: int,
) -> None:
    # The first field of each entry is its time. Sources interleave, so the order is only
    # nearly that of time; an entry a poll too old is dropped a poll later. One from far in
    # the future (a damaged record) must not keep those behind it.
    while entries and not begin_ns <= entries[0][0] <= end_ns:
        entries.popleft()


def counter_rate(series: list[SampleT], field: str) -> float | None:
    """Increase a second of a cumulative field over a series; None if it cannot be told.

    For a field in nanoseconds the result is a dimensionless share (ns a ns).
    """
    first = next((s for s in series if getattr(s, field) is not None), None)
    last = next((s for s in reversed(series) if getattr(s, field) is not None), None)
    if first is None or last is None or last.time_ns <= first.time_ns:
        return None
    increase = getattr(last, field) - getattr(first, field)
    if increase < 0:  # another process or group behind the same key
        return None
    seconds = (last.time_ns - first.time_ns) / 1e9
    return float(increase / (1e9 if field.endswith("_ns") else 1) / seconds)


def increase(series: list[SampleT], field: str) -> float | None:
    """Increase of a cumulative field over a series; None if it cannot be told."""
    values = [value for s in series if (value := getattr(s, field)) is not None]
    if len(values) < 2 or values[-1] < values[0]:
        return None
    return float(values[-1] - values[0])
