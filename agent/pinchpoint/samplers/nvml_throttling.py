"""How long clocks were held down, where the driver only tells that they are at the moment."""

from __future__ import annotations

REASONS: dict[str, int] = {
    "throttled_power_ns": 0x004,
    "throttled_thermal_ns": 0x020 | 0x040,
    "throttled_hardware_ns": 0x008 | 0x040 | 0x080,
    "throttled_sync_boost_ns": 0x010,
    "throttled_board_limit_ns": 0x200,
    "throttled_reliability_ns": 0x400,
}
"""nvmlClocksEventReason… of nvml.h: software power cap; software and hardware thermal slowdown;
hardware slowdown of any kind; sync boost; board limit; reliability."""

GAP_MAX_NS = 2_000_000_000
"""Twice the period. What held the clocks in a longer gap is not known."""


class ThrottledTimes:
    """Adds up the time between readings for each reason that holds at their end.

    Args:
        supported: the reasons that the device can tell of.
    """

    def __init__(self, supported: int) -> None:
        self._times_ns = dict.fromkeys((f for f, mask in REASONS.items() if mask & supported), 0)
        self._last_ns: int | None = None

    def add(self, now_ns: int, reasons: int) -> dict[str, int]:
        """Take in a reading.

        Returns:
            The sums so far, for the reasons that the device can tell of.
        """
        elapsed_ns = 0 if self._last_ns is None else min(now_ns - self._last_ns, GAP_MAX_NS)
        self._last_ns = now_ns
        for field in self._times_ns:
            if REASONS[field] & reasons:
                self._times_ns[field] += elapsed_ns
        return self._times_ns
