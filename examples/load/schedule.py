"""When requests are sent: a Poisson process, fixed before the first request leaves."""

from __future__ import annotations

import random


def poisson_schedule(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """Return the send times in seconds from the start, in order."""
    generator = random.Random(seed)
    times_s: list[float] = []
    time_s = generator.expovariate(rate_per_s)
    while time_s < seconds:
        times_s.append(time_s)
        time_s += generator.expovariate(rate_per_s)
    return times_s
