"""What the pipeline can be told. The defaults are the documented series and budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pinchpoint.pipeline.buckets import FINE_SECONDS, LATENCY_SECONDS
from pinchpoint.pipeline.caps import Caps


@dataclass(frozen=True)
class PipelineOptions:
    """Caps and histogram bounds.

    Attributes:
        caps: how many names keep series of their own.
        latency_bounds_seconds: of whole requests and forwards.
        fine_bounds_seconds: of parts of a request.
        objective_seconds: the latency objective; always one of the latency bounds.
        native_histograms: count requests by exponential buckets too.
        stage_histograms: buckets for each stage of a request besides its sum and its count.
    """

    caps: Caps = field(default_factory=Caps)
    latency_bounds_seconds: tuple[float, ...] = LATENCY_SECONDS
    fine_bounds_seconds: tuple[float, ...] = FINE_SECONDS
    objective_seconds: float | None = None
    native_histograms: bool = False
    stage_histograms: bool = False

    @property
    def latency_bounds(self) -> tuple[float, ...]:
        """The latency bounds, the objective among them."""
        return with_bound(self.latency_bounds_seconds, self.objective_seconds)


def with_bound(bounds: Sequence[float], bound: float | None) -> tuple[float, ...]:
    """The bounds in order, and this one among them."""
    return tuple(sorted({*bounds, bound})) if bound is not None else tuple(bounds)
