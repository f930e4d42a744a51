"""The stages that the server's own code names with `pinchpoint.stage()`."""

from __future__ import annotations

from pinchpoint.pipeline.buckets import FINE_SECONDS, Buckets
from pinchpoint.pipeline.caps import STAGES_MAX, capped
from pinchpoint.schema.events import StageEvent
from pinchpoint.schema.names import Names
from pinchpoint.snapshot import StageTotals


class _Stage:
    def __init__(self) -> None:
        self.wall = Buckets(FINE_SECONDS)
        self.self_ns = 0


class NamedStages:
    """Counts the passes through each.

    Args:
        names: resolves the ids in the records.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._stages: dict[str, _Stage] = {}

    def stage(self, source: int, event: StageEvent) -> None:
        """Count a pass."""
        name = capped(self._names.text(source, event.stage_id), self._stages, STAGES_MAX)
        stage = self._stages.setdefault(name, _Stage())
        stage.wall.observe(event.wall_ns / 1e9)
        stage.self_ns += event.self_ns

    def freeze(self) -> tuple[StageTotals, ...]:
        """Every stage, by name."""
        return tuple(
            StageTotals(name, stage.wall.freeze(), stage.self_ns / 1e9)
            for name, stage in sorted(self._stages.items())
        )
