"""How soon streams begin to answer, and how evenly they go on."""

from __future__ import annotations

from pinchpoint.pipeline.buckets import FINE_SECONDS, Buckets
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.events import StreamEvent


class Streams:
    """Adds up the streams of all methods.

    Args:
        options: has the bounds. Gaps are counted where they are seen, by bounds of the record.
    """

    def __init__(self, options: PipelineOptions) -> None:
        self.first_message = Buckets(options.latency_bounds, native=options.native_histograms)
        self.message_gap = Buckets(FINE_SECONDS)

    def stream(self, event: StreamEvent) -> None:
        """Add what went through a stream."""
        if event.first_message_ns:
            self.first_message.observe(event.first_message_ns / 1e9)
        self.message_gap.merge(event.gaps, event.gap_ns / 1e9)
