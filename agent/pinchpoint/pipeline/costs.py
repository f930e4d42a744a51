"""The most series that a name can make, from which the budget is kept."""

from __future__ import annotations

from pinchpoint.pipeline.buckets import BATCH_SIZE
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.schema.terms import GRPC_CODES, GRPC_TYPES, STAGES

SERIES_BESIDE_BOUNDS = 3
"""Of a histogram: the bucket above all bounds, sum and count."""

FIXED = 700
"""What is always there: 320 today with every reading, at most 670 with as many parts, samplers,
signals and pressures of the probe as there is room for."""


class Costs:
    """Series by what they are of.

    Args:
        options: has the bounds.
    """

    def __init__(self, options: PipelineOptions) -> None:
        latency = len(options.latency_bounds) + SERIES_BESIDE_BOUNDS
        fine = len(options.fine_bounds_seconds) + SERIES_BESIDE_BOUNDS
        # Started, received and sent; requests, handling and queue.
        self.rpcs = 3 + len(GRPC_CODES) + 2 * latency + fine
        self.status = latency
        # In flight; requests, queue, and the status `_OTHER`.
        self.route = 1 + latency + fine + self.status
        # Counters; forwards, batches, enqueueing and the device.
        self.model = 3 + latency + len(BATCH_SIZE) + SERIES_BESIDE_BOUNDS + 2 * fine
        self.layer = 1
        self.stage = 1 + fine
        stages = len(STAGES) * fine if options.stage_histograms else 0
        streams = latency + fine
        others = len(GRPC_TYPES) * self.rpcs + self.route + self.model + self.stage
        self.reserved = FIXED + stages + streams + others
        """What is always there, and every kind's `_OTHER`."""
