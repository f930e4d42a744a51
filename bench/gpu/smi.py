"""nvidia-smi's own readings, in our fields and units."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterable, Sequence

FIELDS = {
    "utilization_ratio": "utilization.gpu",
    "memory_utilization_ratio": "utilization.memory",
    "memory_used_bytes": "memory.used",
    "memory_total_bytes": "memory.total",
    "power_watts": "power.draw",
    "power_limit_watts": "enforced.power.limit",
    "temperature_celsius": "temperature.gpu",
    "sm_clock_hertz": "clocks.sm",
    "sm_clock_max_hertz": "clocks.max.sm",
    "memory_clock_hertz": "clocks.mem",
    "throttled_power_ns": "clocks_event_reasons_counters.sw_power_cap",
    "throttled_sync_boost_ns": "clocks_event_reasons_counters.sync_boost",
    "ecc_corrected": "ecc.errors.corrected.aggregate.total",
    "ecc_uncorrected": "ecc.errors.uncorrected.aggregate.total",
}
"""Of `nvidia-smi --help-query-gpu`. It has none for energy, PCIe traffic and activity."""

UNITS = {"": 1.0, "%": 0.01, "W": 1.0, "MiB": float(1 << 20), "MHz": 1e6, "us": 1e3}
"""As printed behind the value, in ours. A temperature and a count have none."""

TIMEOUT_SECONDS = 30


def known(help_text: str) -> dict[str, str]:
    """Those fields that this nvidia-smi has: it refuses a query with any other."""
    offered = set(re.findall(r'"([a-z0-9_.]+)"', help_text))
    return {field: name for field, name in FIELDS.items() if name in offered}


def parsed(lines: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, float]]:
    """Readings by UUID and field; what is not a number in a known unit is left out.

    Args:
        lines: `--format=csv,noheader` of a query of `uuid` and the fields.
        fields: ours, in the order of the query.
    """
    readings = {}
    for uuid, *texts in csv.reader(lines, skipinitialspace=True):
        values = {field: number(text) for field, text in zip(fields, texts, strict=True)}
        readings[uuid] = {field: value for field, value in values.items() if value is not None}
    return readings


def number(text: str) -> float | None:
    """A value with its unit in ours; None for `[N/A]` and the like."""
    value, _, unit = text.strip().partition(" ")
    try:
        return float(value) * UNITS[unit]
    except (KeyError, ValueError):
        return None


def read(fields: dict[str, str]) -> dict[str, dict[str, float]]:
    """What nvidia-smi says now.

    Raises:
        OSError: it is not there.
        subprocess.SubprocessError: it failed.
    """
    query = ",".join(("uuid", *fields.values()))
    text = _run(f"--query-gpu={query}", "--format=csv,noheader")
    return parsed(text.splitlines(), list(fields))


def fields_here() -> dict[str, str]:
    """`known` of the nvidia-smi of this machine; raises as `read` does."""
    return known(_run("--help-query-gpu"))


def _run(*arguments: str) -> str:
    command = ("nvidia-smi", *arguments)
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS
    )
    return done.stdout
