"""Dispatches each observation to whoever counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from pinchpoint.detect.labels import LABELS, STATES
from pinchpoint.detect.thresholds import HOP_NS
from pinchpoint.detect.verdict import Detector, Verdict
from pinchpoint.pipeline.caps import Admission
from pinchpoint.pipeline.costs import Costs
from pinchpoint.pipeline.failures import Failures
from pinchpoint.pipeline.methods import Methods
from pinchpoint.pipeline.models import Models
from pinchpoint.pipeline.named_stages import NamedStages
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.pipeline.readings import Readings
from pinchpoint.pipeline.sampled import Sampled
from pinchpoint.pipeline.shares import Shares
from pinchpoint.pipeline.streams import Streams
from pinchpoint.schema.events import (
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StageEvent,
    StreamEvent,
)
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
from pinchpoint.schema.terms import ONE_RESPONSE
from pinchpoint.snapshot import AgentFacts, Snapshot


class Pipeline:
    """Everything that turns observations into what the agent says.

    Args:
        options: caps and bounds.
    """

    def __init__(self, options: PipelineOptions | None = None) -> None:
        options = options or PipelineOptions()
        self._names = Names()
        self._admission = Admission(options.caps, Costs(options).reserved)
        self._methods = Methods(self._names, self._admission, options)
        self._failures = Failures()
        self._streams = Streams(options)
        stage_bounds = options.fine_bounds_seconds if options.stage_histograms else ()
        self._sampled = Sampled(stage_bounds)
        self._named_stages = NamedStages(self._names, self._admission, options)
        self._models = Models(self._names, self._admission, options)
        self._readings = Readings(self._names, self._admission)
        self._wall_seconds = 0.0
        self._shares = Shares()
        self._detector = Detector(self._names)
        self._records = 0
        self._lost = Counter(dict.fromkeys(LOSS_REASONS, 0))
        self._bottleneck_seconds = dict.fromkeys([label.type for label in LABELS], 0.0)
        self._transitions = Counter(dict.fromkeys([label.type for label in LABELS], 0))
        self._counted_by: dict[type, Callable[[int, Any], None]] = {
            RequestEvent: self._request,
            RequestDetail: self._detail,
            StreamEvent: self._stream,
            StageEvent: self._named_stages.stage,
            ForwardEvent: self._models.forward,
            DeviceEvent: self._models.device,
            LayerEvent: self._models.layer,
            MethodSample: self._methods.running,
        }

    def feed(self, observation: Observation) -> Verdict | None:
        """Take in an observation; a verdict when it was a tick that was due."""
        source, record = observation
        if isinstance(record, Name):
            self._names.learn(source, record)
            if record.kind == NameKind.METHOD:
                self._methods.declare(record)
            return None
        if isinstance(record, RecordsLost):
            self._lost[record.reason] += record.count
        elif isinstance(record, Tick):
            self._wall_seconds = record.wall_ns / 1e9
        else:
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
            methods=self._methods.rpcs(),
            routes=self._methods.routes(),
            rejected=dict(self._failures.rejected),
            abandoned=dict(self._failures.abandoned),
            message_errors=dict(self._failures.message_errors),
            first_message=self._streams.first_message.freeze(),
            message_gap=self._streams.message_gap.freeze(),
            received_bytes=self._sampled.received_bytes.freeze(),
            sent_bytes=self._sampled.sent_bytes.freeze(),
            stages=self._sampled.stages(),
            named_stages=self._named_stages.freeze(),
            component_seconds=dict(self._shares.seconds),
            models=self._models.freeze(),
            model_facts=self._readings.models(),
            counters=dict(self._readings.counters),
            gauges=self._readings.gauges(),
            signals=self._readings.signals(),
            gpu_facts=self._readings.gpus(),
            records=self._records,
            lost=dict(self._lost),
            folded=dict(self._admission.folded),
            bottleneck_seconds=dict(self._bottleneck_seconds),
            bottleneck_transitions=dict(self._transitions),
        )

    def _count(self, source: int, record: object) -> None:
        count = self._counted_by.get(type(record))
        if count is not None:
            count(source, record)
        elif isinstance(record, Sample):
            self._readings.add(source, record)

    def _request(self, source: int, event: RequestEvent) -> None:
        self._methods.request(source, event)
        self._failures.request(event)

    def _detail(self, source: int, detail: RequestDetail) -> None:
        self._sampled.detail(detail)
        if detail.trace_id:
            # When the agent heard of it: a look, a quarter of a second, after it ended.
            self._methods.exemplify(source, detail, self._wall_seconds)
        if detail.call_type in ONE_RESPONSE:
            self._shares.detail(detail)

    def _stream(self, source: int, event: StreamEvent) -> None:
        self._methods.stream(source, event)
        self._streams.stream(event)

    def _forget(self, source: int) -> None:
        self._methods.close_source(source)
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
