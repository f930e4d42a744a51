from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import pytest

from pinchpoint.pipeline import Pipeline
from pinchpoint.pipeline.caps import SERIES_MIN, Caps
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import (
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    StageEvent,
    StageTime,
    StreamEvent,
)
from pinchpoint.schema.observations import Name, NameKind, Observation, Record
from pinchpoint.schema.samples import (
    SAMPLE_TYPES,
    GpuSample,
    MethodSample,
    ModelSample,
    SamplerSample,
    SignalSample,
)
from pinchpoint.schema.terms import CALL_TYPES, GAP_BOUNDS_NS, GRPC_CODES, GRPC_TYPES, OTHER, STAGES
from pinchpoint.schema.wire import sample_fields
from tests.support.series import series_of
from tests.unit.pipeline.feeding import call, shown

NAMES = 150
"""Of each kind: more than any cap."""

GRPC_METHOD_SERIES = range(71, 82)
"""What one gRPC method adds: the least, with the zeros that are exported up front, and the most,
with every code."""


class Names:
    """Hands out names as a ring does."""

    def __init__(self) -> None:
        self.made: list[Name] = []

    def __call__(self, kind: NameKind, text: str, detail: int = 0) -> int:
        self.made.append(Name(len(self.made) + 1, kind, detail, text))
        return len(self.made)


def methods(name: Names) -> Iterator[Record]:
    """RPCs and HTTP routes with every type and outcome."""
    for number in range(NAMES):
        for call_type in range(len(CALL_TYPES)):
            grpc = call_type < len(GRPC_TYPES)
            text = f"/s.S/M{number}" if grpc else f"GET /{number}"
            method = name(NameKind.METHOD, text, call_type)
            for status in range(len(GRPC_CODES)) if grpc else range(200, 220):
                yield call(method, status, call_type)
            gaps = (1,) * (len(GAP_BOUNDS_NS) + 1)
            yield StreamEvent(call_type, method, 1, 1, 0, 1, 1, gaps)


def models(name: Names) -> Iterator[Record]:
    """Models with layers and device times."""
    for number in range(NAMES):
        model = name(NameKind.MODEL, f"m{number}")
        yield ForwardEvent(0, model, 0, 4, 7, 0, 10**6)
        yield DeviceEvent(model, 0, 4, 0, 5, 6)
        yield ModelSample(0, model, 1, 1, 1, 1, 1)
        for layer in range(40):
            yield LayerEvent(model, name(NameKind.LAYER, f"l{layer}"), 1, 5, 0, 10, 10)


def stages(name: Names) -> Iterator[Record]:
    """Stages that the server names, and those that every request has."""
    for number in range(NAMES):
        yield StageEvent(name(NameKind.STAGE, f"s{number}"), 0, 0, 0, 5, 5)
    times = (StageTime(5, 5, 0),) * len(STAGES)
    yield RequestDetail(0, 0, 1, 0, 1, 1.0, 0, 10, 0, 10, 10, 0, 0, times)


def readings(name: Names) -> Iterator[Record]:
    """Every field of every sample, of instances without end."""
    for number in range(NAMES):
        instance = name(NameKind.OTHER, f"i{number}")
        for sample_type in SAMPLE_TYPES:
            if sample_type not in (ModelSample, MethodSample):
                for value in (1.0, 2.0):
                    fields = dict.fromkeys(sample_fields(sample_type), value)
                    yield sample_type(0, instance, **fields)
        yield SignalSample(0, instance, available=1.0)


Flood = Callable[[Names], Iterator[Record]]

FLOODS: tuple[Flood, ...] = (methods, models, stages, readings)


def flooded(floods: tuple[Flood, ...], options: PipelineOptions | None = None) -> Pipeline:
    pipeline = Pipeline(options)
    names = Names()
    known = 0
    for flood in floods:
        for record in flood(names):
            for name in names.made[known:]:
                pipeline.feed(Observation(1, name))
            known = len(names.made)
            pipeline.feed(Observation(1, record))
    return pipeline


@pytest.mark.parametrize("floods", [*((flood,) for flood in FLOODS), *permutations(FLOODS)])
def test_no_flood_makes_more_series_than_the_cap(floods: tuple[Flood, ...]) -> None:
    """Alone, or one after the other in any order: who comes first gets the room."""
    snapshot = shown(flooded(floods))
    assert series_of(snapshot).total() <= Caps().series
    assert any(snapshot.folded.values())


def test_methods_leave_room_for_what_comes_later() -> None:
    """A server declares them at its start; its GPUs, models and our own signals come after."""
    pipeline = flooded((methods,))
    for number in range(1, 9):
        pipeline.feed(Observation(2, Name(number, NameKind.OTHER, 0, f"n{number}")))
        pipeline.feed(Observation(2, SignalSample(0, number, available=1.0)))
        pipeline.feed(Observation(2, SamplerSample(0, number, 1.0, 0.0)))
        pipeline.feed(Observation(2, GpuSample(0, number, power_watts=1.0)))
    for number in range(1, 5):
        pipeline.feed(Observation(2, ForwardEvent(0, number, 0, 4, 7, 0, 10**6)))
    snapshot = shown(pipeline)
    assert len(snapshot.signals) == len(snapshot.gpu_facts) == 8
    assert len(snapshot.models) == 4
    assert OTHER not in {name for _, name, _ in snapshot.gauges}
    assert OTHER not in {model.model for model in snapshot.models}


def test_bounds_count_too() -> None:
    """Who asks for finer histograms gets fewer of them, not more series."""
    bounds = tuple(float(number) for number in range(1, 41))
    options = PipelineOptions(
        latency_bounds_seconds=bounds, fine_bounds_seconds=bounds, stage_histograms=True
    )
    assert series_of(shown(flooded(FLOODS, options))).total() <= Caps().series


def test_a_smaller_cap_is_kept() -> None:
    """Whatever is told."""
    options = PipelineOptions(caps=Caps(series=SERIES_MIN))
    assert series_of(shown(flooded(FLOODS, options))).total() <= SERIES_MIN


def test_what_a_method_adds() -> None:
    """The figure in the reference."""
    before = series_of(shown(flooded((stages,)))).total()
    pipeline = flooded((stages,))
    pipeline.feed(Observation(2, Name(1, NameKind.METHOD, 0, "/s.S/One")))
    assert series_of(shown(pipeline)).total() - before == GRPC_METHOD_SERIES.start
    for status in range(len(GRPC_CODES)):
        pipeline.feed(Observation(2, call(1, status)))
    assert series_of(shown(pipeline)).total() - before == GRPC_METHOD_SERIES.stop - 1
