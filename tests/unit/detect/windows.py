"""Windows made by hand, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pinchpoint.detect.features import Features, extract
from pinchpoint.detect.window import Window
from pinchpoint.schema.events import StackEvent, StageTime
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Name
from pinchpoint.schema.samples import PythonSample, Sample
from pinchpoint.schema.terms import CATEGORY_INDEX, STAGE_INDEX
from tests.support.observations import MILLISECOND_NS, SECOND_NS, request

NOW_NS = 100 * SECOND_NS
BEGIN_NS = NOW_NS - 9 * SECOND_NS


def milliseconds(cpu: float = 0.0, runqueue: float = 0.0, blocked: float = 0.0) -> StageTime:
    """A stage's time."""
    cpu_ns, runqueue_ns, blocked_ns = (
        round(value * MILLISECOND_NS) for value in (cpu, runqueue, blocked)
    )
    return StageTime(cpu_ns + runqueue_ns + blocked_ns, cpu_ns, runqueue_ns)


def window(*names: Name) -> Window:
    """An empty window; source 1 has interned the names."""
    known = Names()
    for name in names:
        known.learn(1, name)
    return Window(known)


def features_of(
    stages: Mapping[str, StageTime],
    *,
    looks: Iterable[tuple[str, str]] = (),
    samples: Iterable[Sample] = (),
    gc_ms: float = 0.0,
    requests: int = 20,
) -> Features:
    """The figures of a window of equal requests."""
    made = window()
    for _ in range(requests):
        event, detail = request(BEGIN_NS, stages, gc_ns=round(gc_ms * MILLISECOND_NS))
        made.add(1, event)
        made.add(1, detail)
    for stage, category in looks:
        made.add(1, look(stage, category))
    for sample in samples:
        made.add(1, sample)
    made.advance(NOW_NS)
    return extract(made)


def look(stage: str, category: str, location_id: int = 0) -> StackEvent:
    """One look at a request thread."""
    return StackEvent(
        CATEGORY_INDEX[category], STAGE_INDEX[stage], 7, 1, location_id, NOW_NS - SECOND_NS
    )


def beats(late_ratio: float) -> tuple[PythonSample, PythonSample]:
    """Nine seconds of heartbeats of which a share was late."""
    return (
        PythonSample(BEGIN_NS, 0, beats=0.0, late_beats=0.0, gc_pause_ns=0.0),
        PythonSample(NOW_NS, 0, beats=90.0, late_beats=90 * late_ratio, gc_pause_ns=0.0),
    )
