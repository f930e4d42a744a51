"""How busy a service is, from the requests of its window."""

from __future__ import annotations

import pytest

from pinchpoint.detect.replay_model import REQUESTS_MAX
from tests.support.observations import HEALTHY, known


def test_workers_are_as_busy_however_many_requests_come() -> None:
    """Only the newest requests of a window are replayed; the workers served the others too."""
    dear_waits = HEALTHY.stage("preprocess", blocked=20).but(cpus=64.0)
    few = known().run(dear_waits, 15)[-1]
    often = dear_waits.but(rate=10 * dear_waits.rate, workers=10 * dear_waits.workers)
    many = known().run(often, 15)[-1]
    assert many.traffic.requests > REQUESTS_MAX
    assert many.utilization_ratio == pytest.approx(few.utilization_ratio, rel=0.15)
