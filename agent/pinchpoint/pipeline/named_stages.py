"""The stages that the server's own code names with `pinchpoint.stage()`."""

from __future__ import annotations

from collections.abc import Sequence

from pinchpoint.pipeline.buckets import Buckets
from pinchpoint.pipeline.caps import Admission
from pinchpoint.pipeline.costs import Costs
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import StageEvent
from pinchpoint.schema.names import Names
from pinchpoint.snapshot import StageTotals


class _Stage:
    def __init__(self, bounds: Sequence[float]) -> None:
        self.wall = Buckets(bounds)
        self.self_ns = 0


class NamedStages:
    """Counts the passes through each.

    Args:
        names: resolves the ids in the records.
        admission: which stages get series of their own.
        options: has the bounds.
    """

    def __init__(self, names: Names, admission: Admission, options: PipelineOptions) -> None:
        self._names = names
        self._admission = admission
        self._bounds = options.fine_bounds_seconds
        self._series = Costs(options).stage
        self._stages: dict[str, _Stage] = {}

    def stage(self, source: int, event: StageEvent) -> None:
        """Count a pass."""
        text = self._names.text(source, event.stage_id)
        name = self._admission.name("stages", text, self._series)
        stage = self._stages.get(name)
        if stage is None:
            stage = self._stages[name] = _Stage(self._bounds)
        stage.wall.observe(event.wall_ns / 1e9)
        stage.self_ns += event.self_ns

    def freeze(self) -> tuple[StageTotals, ...]:
        """Every stage, by name."""
        return tuple(
            StageTotals(name, stage.wall.freeze(), stage.self_ns / 1e9)
            for name, stage in sorted(self._stages.items())
        )
