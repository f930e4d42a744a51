"""Numbers for people: milliseconds, per cent, a hyphen for what is absent."""

from __future__ import annotations

ABSENT = "-"


def milliseconds(seconds: float | None) -> str:
    """Return a duration, in seconds from one second on."""
    if seconds is None:
        return ABSENT
    if seconds >= 0.9995:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def percent(ratio: float | None) -> str:
    """Return a share."""
    if ratio is None:
        return ABSENT
    return "<1 %" if 0 < ratio < 0.005 else f"{ratio * 100:.0f} %"


def count(value: float | None, digits: int = 0) -> str:
    """Return a plain number."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def clock(time_s: float) -> str:
    """Return minutes and seconds."""
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"
