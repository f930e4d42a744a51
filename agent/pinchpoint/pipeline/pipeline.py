"""Dispatches each observation to whoever counts it."""

from __future__ import annotations

from collections import Counter

from pinchpoint.detect.labels import LABELS, STATES
from pinchpoint.detect.thresholds import HOP_NS
from pinchpoint.detect.verdict import Detector, Verdict
from pinchpoint.pipeline.readings import Readings
from pinchpoint.pipeline.shares import Shares
from pinchpoint.pipeline.traffic import Traffic
from pinchpoint.schema.events import ForwardEvent, LayerEvent, RequestDetail, RequestEvent
from pinchpoint.schema.frames import LOSS_REASONS
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import (
    Name,
    NameKind,
    Observation,
    RecordsLost,
    SourceClosed,
    Tick,
)
from pinchpoint.schema.samples import MethodSample, Sample
from pinchpoint.schema.terms import UNARY
from pinchpoint.snapshot import AgentFacts, Snapshot


class Pipeline:
    """Everything that turns observations into what the agent says."""

    def __init__(self) -> None:
        self._names = Names()
        self._traffic = Traffic(self._names)
        self._readings = Readings(self._names)
        self._shares = Shares()
        self._detector = Detector(self._names)
        self._records = 0
        self._lost = Counter(dict.fromkeys(LOSS_REASONS, 0))
        self._bottleneck_seconds = dict.fromkeys([label.type for label in LABELS], 0.0)
        self._transitions = Counter(dict.fromkeys([label.type for label in LABELS], 0))

    def feed(self, observation: Observation) -> Verdict | None:
        """Take in an observation; a verdict when it was a tick that was due."""
        source, record = observation
        if isinstance(record, Name):
            self._names.learn(source, record)
            if record.kind == NameKind.METHOD:
                self._traffic.declare(record)
            return None
        if isinstance(record, RecordsLost):
            self._lost[record.reason] += record.count
        elif not isinstance(record, Tick):
            self._records += 1
            self._count(source, record)
        before = self._detector.verdict
        verdict = self._detector.feed(observation)
        if isinstance(record, SourceClosed):
            self._forget(source)
        if verdict is not None:
            self._settle(before, verdict)
        return verdict

    def snapshot(self, agent: AgentFacts) -> Snapshot:
        """Everything as it is now."""
        return Snapshot(
            verdict=self._detector.verdict,
            agent=agent,
            methods=self._traffic.methods(),
            rejected=dict(self._traffic.rejected),
            stage_seconds=dict(self._traffic.stages),
            component_seconds=dict(self._shares.seconds),
            models=self._traffic.models(),
            model_facts=self._readings.models(),
            counters=dict(self._readings.counters),
            gauges=self._readings.gauges(),
            signals=self._readings.signals(),
            records=self._records,
            lost=dict(self._lost),
            bottleneck_seconds=dict(self._bottleneck_seconds),
            bottleneck_transitions=dict(self._transitions),
        )

    def _count(self, source: int, record: object) -> None:
        if isinstance(record, RequestEvent):
            self._traffic.request(source, record)
        elif isinstance(record, RequestDetail):
            self._traffic.detail(record)
            if record.grpc_type == UNARY:
                self._shares.detail(record)
        elif isinstance(record, ForwardEvent):
            self._traffic.forward(source, record)
        elif isinstance(record, LayerEvent):
            self._traffic.layer(source, record)
        elif isinstance(record, MethodSample):
            self._traffic.running(source, record)
        elif isinstance(record, Sample):
            self._readings.add(source, record)

    def _forget(self, source: int) -> None:
        self._traffic.close_source(source)
        self._readings.close_source(source)
        self._names.forget(source)

    def _settle(self, before: Verdict, now: Verdict) -> None:
        self._shares.settle(now)
        was = {active.found.label.type for active in before.active}
        # A suspended agent saw nothing of the gap.
        elapsed = min(now.time_ns - before.time_ns, 2 * HOP_NS) / 1e9
        for active in now.active:
            label = active.found.label.type
            if label in was:
                self._bottleneck_seconds[label] += elapsed
            else:
                self._transitions[label] += 1


assert not {label.type for label in LABELS} & set(STATES)
