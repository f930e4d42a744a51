"""One immutable picture of everything the agent can say. A scrape renders it and does
nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pinchpoint.detect.verdict import Verdict


@dataclass(frozen=True)
class Histogram:
    """Counts by bucket (`counts` has one more than `bounds`: above the last) and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Observations in all."""
        return sum(self.counts)

    def plus(self, other: Histogram) -> Histogram:
        """Both together; they have the same bounds."""
        counts = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds, tuple(counts), self.sum + other.sum)


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
class Signal:
    """Whether a signal can be read where the server runs, and why not."""

    name: str
    available: bool
    reason: str


@dataclass(frozen=True)
class AgentFacts:
    """The agent's own state and costs."""

    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    start_wall_seconds: float = 0.0
    tick_lateness_seconds: float = 0.0
    rings_attached: int = 0
    ring_errors: int = 0
    ready: bool = True


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
    stage_seconds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By stage: weighted number of requests and sum of seconds."""
    named_stages: tuple[StageTotals, ...] = ()
    component_seconds: Mapping[str, float] = field(default_factory=dict)
    models: tuple[ModelTotals, ...] = ()
    model_facts: tuple[ModelFacts, ...] = ()
    counters: Mapping[ReadingKey, float] = field(default_factory=dict)
    gauges: Mapping[ReadingKey, float] = field(default_factory=dict)
    signals: tuple[Signal, ...] = ()
    records: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    bottleneck_seconds: Mapping[str, float] = field(default_factory=dict)
    bottleneck_transitions: Mapping[str, int] = field(default_factory=dict)
