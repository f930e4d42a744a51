from __future__ import annotations

import pytest

from pinchpoint.schema.events import StageEvent
from pinchpoint.schema.observations import Name, NameKind
from pinchpoint.schema.terms import OTHER
from tests.support.observations import MILLISECOND_NS
from tests.unit.pipeline.feeding import CAPS, FLOOD, fed, feed, shown


def named(text: str, name_id: int) -> Name:
    return Name(name_id, NameKind.STAGE, 0, text)


def spent(stage_id: int, wall_ms: int, self_ms: int) -> StageEvent:
    return StageEvent(stage_id, 0, 7, 0, wall_ms * MILLISECOND_NS, self_ms * MILLISECOND_NS)


def test_passes_are_counted_by_stage_with_what_is_their_own() -> None:
    """The outer stage lasts as long as what is inside it, and has less of its own."""
    pipeline = fed(named("outer", 1), named("inner", 2), spent(2, 3, 3), spent(1, 5, 2))
    inner, outer = shown(pipeline).named_stages
    assert (inner.stage, inner.wall.count, inner.self_seconds) == ("inner", 1, 0.003)
    assert (outer.stage, outer.wall.sum, outer.self_seconds) == ("outer", 0.005, 0.002)


def test_a_stage_of_two_processes_is_one() -> None:
    """By its name, not by its number."""
    pipeline = fed(named("tokenise", 1), spent(1, 3, 3))
    feed(pipeline, named("tokenise", 9), spent(9, 3, 3), source=2)
    (stage,) = shown(pipeline).named_stages
    assert stage.wall.count == 2


def test_a_flood_of_stages_is_folded() -> None:
    """A name made of the request's data would be one a request."""
    pipeline = fed(
        *(named(f"s{i}", i + 1) for i in range(FLOOD)), *(spent(i + 1, 1, 1) for i in range(FLOOD))
    )
    stages = shown(pipeline).named_stages
    assert len(stages) == CAPS.stages + 1
    other = next(stage for stage in stages if stage.stage == OTHER)
    assert other.wall.count == FLOOD - CAPS.stages
    assert sum(stage.self_seconds for stage in stages) == pytest.approx(FLOOD * 0.001)
