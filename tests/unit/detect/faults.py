"""Loads with one thing wrong each, and the loads that they are told apart from."""

from __future__ import annotations

from tests.support.observations import COLD_LAYER, HEALTHY, HOT_LAYER, Load

CALLS = (("preprocess", "client"),) * 4
"""Every look of a second finds the handler in a client library."""

THROTTLED = HEALTHY.stage("forward", runqueue=12).but(
    quota_cores=0.5, throttled_periods_ratio=0.8, throttled_share=0.6
)
GIL = HEALTHY.stage("preprocess", blocked=20).but(late_beats_ratio=0.9, python_cores=1.0)
DOWNSTREAM = HEALTHY.stage("preprocess", blocked=15).but(looks=CALLS)
PREPROCESS = HEALTHY.stage("preprocess", cpu=12).but(
    looks=(("preprocess", "running"),) * 3 + (("forward", "torch"),)
)
HOT = HEALTHY.stage("forward", cpu=24).but(
    layers={HOT_LAYER.name_id: 12.0, COLD_LAYER.name_id: 5.0}
)

WAITING = HEALTHY.but(workers=1, rate=20.0, looks=CALLS).stage("preprocess", blocked=8)
"""One worker that mostly waits for another service: healthy while few requests come."""
FEW_WORKERS = WAITING.but(rate=58.0)
DEAR = HEALTHY.but(rate=15.0, workers=2).stage("preprocess", cpu=8).stage("forward", cpu=24)
"""A service of which two CPUs can serve about sixty requests a second."""
SATURATED = DEAR.but(rate=57.0).stage("forward", runqueue=2)

FAULTS: dict[str, tuple[Load, Load]] = {
    "cpu_quota_throttling": (HEALTHY, THROTTLED),
    "gil_contention": (HEALTHY, GIL),
    "downstream_wait": (HEALTHY, DOWNSTREAM),
    "preprocess_cpu": (HEALTHY, PREPROCESS),
    "model_hot_layer": (HEALTHY, HOT),
    "insufficient_parallelism": (WAITING, FEW_WORKERS),
    "queue_saturation": (DEAR, SATURATED),
}
"""By label: the load that was learned and the load with the fault."""
