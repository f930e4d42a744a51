"""One immutable picture of everything the agent can say. A scrape renders it and does
nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pinchpoint.detect.verdict import Verdict


@dataclass(frozen=True)
class Exemplar:
    """A request that stands for its bucket."""

    trace_id: str
    """32 hexadecimal digits."""
    value: float
    wall_seconds: float
    """When it was observed, in seconds since the epoch."""


@dataclass(frozen=True)
class NativeBuckets:
    """Counts by exponential buckets: bucket `i` ends at, and includes, `2 ** (i / 2**schema)`."""

    schema: int
    zero_count: int
    """Values of at most `ZERO_THRESHOLD`."""
    counts: Mapping[int, int]

    def at(self, schema: int) -> NativeBuckets:
        """The same at a lower resolution: neighbours in one."""
        counts: dict[int, int] = {}
        for index, count in self.counts.items():
            merged = -(-index >> (self.schema - schema))
            counts[merged] = counts.get(merged, 0) + count
        return NativeBuckets(schema, self.zero_count, counts)

    def plus(self, other: NativeBuckets) -> NativeBuckets:
        """Both together, at the lower of the two resolutions."""
        schema = min(self.schema, other.schema)
        counts = dict(self.at(schema).counts)
        for index, count in other.at(schema).counts.items():
            counts[index] = counts.get(index, 0) + count
        return NativeBuckets(schema, self.zero_count + other.zero_count, counts)


ZERO_THRESHOLD = 2.0**-128
"""Breadth of the zero bucket of native histograms, as client_golang has it."""


@dataclass(frozen=True)
class Histogram:
    """Counts by bucket (`counts` has one more than `bounds`: above the last) and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar | None, ...] = ()
    """One place for each bucket; none at all while there is no exemplar."""
    native: NativeBuckets | None = None
    """The same observations, where they are counted by exponential buckets too."""

    @property
    def count(self) -> int:
        """Observations in all."""
        return sum(self.counts)

    def plus(self, other: Histogram) -> Histogram:
        """Both together; they have the same bounds."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        exemplars = self.exemplars or other.exemplars
        if self.exemplars and other.exemplars:
            pairs = zip(self.exemplars, other.exemplars, strict=True)
            exemplars = tuple(_later(*pair) for pair in pairs)
        native = self.native.plus(other.native) if self.native and other.native else None
        return Histogram(self.bounds, counts, self.sum + other.sum, exemplars, native)


def _later(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    known = [exemplar for exemplar in (one, other) if exemplar is not None]
    return max(known, key=lambda exemplar: exemplar.wall_seconds, default=None)


NOTHING = Histogram((), (0,), 0.0)


@dataclass(frozen=True)
class MethodTotals:
    """What one gRPC method has done since the agent attached. Seconds."""

    grpc_type: str
    service: str
    method: str
    started: int
    handled: Mapping[str, int]
    in_flight: int
    received: int
    sent: int
    request: Histogram
    handling: Histogram
    queue: Histogram


@dataclass(frozen=True)
class RouteTotals:
    """What one HTTP method and route have done since the agent attached. Seconds."""

    http_method: str
    route: str
    in_flight: int
    durations: Mapping[str, Histogram]
    """By status code; "" for requests that got no response."""
    request: Histogram
    queue: Histogram


@dataclass(frozen=True)
class StageTotals:
    """What one named stage has taken since the agent attached. Seconds."""

    stage: str
    wall: Histogram
    self_seconds: float
    """Without the named stages inside it."""


@dataclass(frozen=True)
class ModelTotals:
    """What one torch model has done since the agent attached. Seconds."""

    model: str
    forward: Histogram
    batch_size: Histogram
    forwards_with_grad: int
    forwards_in_training_mode: int
    enqueue: Histogram
    device: Histogram
    """Of the sampled forwards on an asynchronous device, as `enqueue`."""
    layer_seconds: Mapping[str, float]
    layer_samples: int


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without running it."""

    model: str
    device: str
    dtype: str
    compiled: bool
    parameters: float | None
    bytes: float | None


@dataclass(frozen=True)
class GpuFacts:
    """What is known of a GPU or MIG instance; "" and None where it is not."""

    uuid: str
    index: int | None
    product: str
    driver: str
    parent: str
    """UUID of the GPU that a MIG instance is part of."""


@dataclass(frozen=True)
class Signal:
    """Whether a signal can be read where the server runs, and why not."""

    name: str
    available: bool
    reason: str


@dataclass(frozen=True)
class AgentFacts:
    """The agent's own state and costs."""

    cpu_seconds: float = 0.0
    resident_bytes: int | None = None
    start_wall_seconds: float = 0.0
    tick_lateness_seconds: float = 0.0
    rings_attached: int = 0
    ring_errors: int = 0
    ready: bool = True
    config_reload_successful: bool = True
    config_reload_success_wall_seconds: float = 0.0


ReadingKey = tuple[str, str, str]
"""Sample type's name, name of its instance ("" for none), field."""


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment. Counters are since the agent attached."""

    verdict: Verdict
    agent: AgentFacts
    methods: tuple[MethodTotals, ...] = ()
    routes: tuple[RouteTotals, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    abandoned: Mapping[str, int] = field(default_factory=dict)
    """RPCs that were given up while they were queued or received."""
    message_errors: Mapping[str, int] = field(default_factory=dict)
    first_message: Histogram = NOTHING
    message_gap: Histogram = NOTHING
    received_bytes: Histogram = NOTHING
    sent_bytes: Histogram = NOTHING
    stages: Mapping[str, Histogram] = field(default_factory=dict)
    """Of the sampled requests, weighted to all. Seconds."""
    named_stages: tuple[StageTotals, ...] = ()
    component_seconds: Mapping[str, float] = field(default_factory=dict)
    models: tuple[ModelTotals, ...] = ()
    model_facts: tuple[ModelFacts, ...] = ()
    counters: Mapping[ReadingKey, float] = field(default_factory=dict)
    gauges: Mapping[ReadingKey, float] = field(default_factory=dict)
    signals: tuple[Signal, ...] = ()
    gpu_facts: tuple[GpuFacts, ...] = ()
    records: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    folded: Mapping[str, int] = field(default_factory=dict)
    """By kind of name: records whose name has no series of its own."""
    bottleneck_seconds: Mapping[str, float] = field(default_factory=dict)
    bottleneck_transitions: Mapping[str, int] = field(default_factory=dict)
