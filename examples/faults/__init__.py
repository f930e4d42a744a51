"""Real faults for a running service, each with the label Pinchpoint should give it."""

from __future__ import annotations

from examples.faults.cpu_quota import CpuQuota
from examples.faults.in_server import FEW_WORKERS, GIL, HOT_LAYER, SLOW_PREPROCESS
from examples.faults.rig import Fault, FaultRig
from examples.faults.slow_dependency import SlowDependency

FAULTS: tuple[Fault, ...] = (
    CpuQuota(),
    SLOW_PREPROCESS,
    FEW_WORKERS,
    GIL,
    SlowDependency(),
    HOT_LAYER,
)

__all__ = ["FAULTS", "Fault", "FaultRig"]
