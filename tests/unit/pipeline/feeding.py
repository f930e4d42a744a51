"""Pipelines that are fed records by hand."""

from __future__ import annotations

from collections.abc import Mapping

from pinchpoint.pipeline import Pipeline
from pinchpoint.pipeline.caps import Caps
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED, FLAG_RESPONDED, RequestEvent, StageTime
from pinchpoint.schema.observations import Name, NameKind, Observation, Record
from pinchpoint.schema.terms import UNARY
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.observations import MILLISECOND_NS, request

FLOOD = 10_000

CAPS = Caps(methods=8, statuses=3, models=4, layers=5, stages=6, readings=7)

TIMES = {
    "queue": StageTime(3 * MILLISECOND_NS, 0, 0),
    "handler": StageTime(20 * MILLISECOND_NS, 0, 0),
    "send": StageTime(4 * MILLISECOND_NS, 0, 0),
}
"""27 ms."""


def fed(*records: Record) -> Pipeline:
    """A pipeline that has seen records of source 1."""
    pipeline = Pipeline(PipelineOptions(caps=CAPS))
    feed(pipeline, *records)
    return pipeline


def feed(pipeline: Pipeline, *records: Record, source: int = 1) -> None:
    """Records of a source."""
    for record in records:
        pipeline.feed(Observation(source, record))


def shown(pipeline: Pipeline) -> Snapshot:
    """What the pipeline has to say."""
    return pipeline.snapshot(AgentFacts())


def method(text: str, name_id: int = 1, call_type: int = UNARY) -> Name:
    """A method that a server declares."""
    return Name(name_id, NameKind.METHOD, call_type, text)


def call(
    name_id: int = 1,
    status: int = 0,
    call_type: int = UNARY,
    flags: int = FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED,
    times: Mapping[str, StageTime] = TIMES,
) -> RequestEvent:
    """A finished request."""
    event, _ = request(0, times, status=status, call_type=call_type, flags=flags, method_id=name_id)
    return event
