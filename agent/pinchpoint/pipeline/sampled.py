"""What only the uniform sample of requests knows, weighted to all requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pinchpoint.pipeline.buckets import SIZE_BYTES, Buckets
from pinchpoint.schema.events import RequestDetail
from pinchpoint.schema.terms import STAGES
from pinchpoint.snapshot import Histogram


class Sampled:
    """Adds up stages and sizes of messages.

    Args:
        stage_bounds: of the stages' histograms, seconds; none for sums and counts alone.
    """

    def __init__(self, stage_bounds: Sequence[float]) -> None:
        self._stages = {name: Buckets(stage_bounds) for name in STAGES}
        self.received_bytes = Buckets(SIZE_BYTES)
        self.sent_bytes = Buckets(SIZE_BYTES)

    def detail(self, detail: RequestDetail) -> None:
        """Add a sampled request, for all the requests that it stands for."""
        weight = round(detail.weight)
        for name, stage in zip(STAGES, detail.stages, strict=True):
            if stage.wall_ns:
                self._stages[name].observe(stage.wall_ns / 1e9, weight)
        if detail.request_bytes is not None:
            self.received_bytes.observe(detail.request_bytes, weight)
        if detail.response_bytes is not None:
            self.sent_bytes.observe(detail.response_bytes, weight)

    def stages(self) -> Mapping[str, Histogram]:
        """Every stage that was seen."""
        frozen = {name: buckets.freeze() for name, buckets in self._stages.items()}
        return {name: histogram for name, histogram in frozen.items() if histogram.count}
