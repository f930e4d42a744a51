"""What only the uniform sample of requests knows, weighted to all requests."""

from __future__ import annotations

from pinchpoint.pipeline.buckets import SIZE_BYTES, Buckets
from pinchpoint.schema.events import RequestDetail
from pinchpoint.schema.terms import STAGES


class Sampled:
    """Adds up stages and sizes of messages."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[float, float]] = {}
        self.received_bytes = Buckets(SIZE_BYTES)
        self.sent_bytes = Buckets(SIZE_BYTES)

    def detail(self, detail: RequestDetail) -> None:
        """Add a sampled request, for all the requests that it stands for."""
        for name, stage in zip(STAGES, detail.stages, strict=True):
            if stage.wall_ns:
                count, seconds = self.stages.get(name, (0.0, 0.0))
                seconds += detail.weight * stage.wall_ns / 1e9
                self.stages[name] = (count + detail.weight, seconds)
        weight = round(detail.weight)
        if detail.request_bytes is not None:
            self.received_bytes.observe(detail.request_bytes, weight)
        if detail.response_bytes is not None:
            self.sent_bytes.observe(detail.response_bytes, weight)
