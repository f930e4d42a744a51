"""The figures as Markdown: one table against the targets, and one for each part."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.agent import hour, live, reading, scrape, threads
from bench.report import table

_MEBIBYTE = 2**20
_MEGABYTE = 10**6

Row = tuple[str, str, str]
"""What, as measured, what it must be."""


def summary(rows: Sequence[Row]) -> str:
    """Everything that has a target."""
    return table(("figure", "measured", "target"), rows)


def read(turns: Sequence[dict[str, float]]) -> str:
    """The ring's reader."""
    rows = [
        (stage, f"{_nanoseconds(turns, stage):.0f}", f"{_per_second(turns, stage):,.0f}")
        for stage in reading.STAGES
    ]
    return table(("records read as", "CPU of a record, ns", "records/s"), rows)


def read_targets(turns: Sequence[dict[str, float]]) -> list[Row]:
    """As bytes and as observations: both can be called reading."""
    return [
        (f"ring reader, records as {stage}", f"{_per_second(turns, stage):,.0f}/s", "≥ 500,000/s")
        for stage in (reading.BYTES, reading.OBSERVATIONS)
    ]


def agents(seconds: Sequence[live.Second]) -> str:
    """The agent's own process."""
    rows = []
    for arm, of_arm in _by_arm(seconds).items():
        first, last = of_arm[0], of_arm[-1]
        used = live.used(first, last)
        rows.append(
            (
                arm,
                _percent(used.total),
                _percent(used.system),
                f"{first.resident_bytes / _MEBIBYTE:.1f}",
                f"{last.resident_bytes / _MEBIBYTE:.1f}",
            )
        )
    head = ("agent", "CPU, of one core", "of it system", "resident, MiB", "at the end")
    return table(head, rows)


def agent_targets(seconds: Sequence[live.Second]) -> list[Row]:
    """CPU and memory, the recording left out and included."""
    rows = []
    for arm, of_arm in _by_arm(seconds).items():
        most = max(second.resident_bytes for second in of_arm)
        used = live.used(of_arm[0], of_arm[-1]).total
        rows.append((f"agent, {arm}, CPU", f"{_percent(used)} of one core", "< 3 %"))
        rows.append((f"agent, {arm}, resident", f"{most / _MEGABYTE:.0f} MB", "< 80 MB"))
    return rows


def replayed(steps: Sequence[hour.Step]) -> str:
    """An hour of records."""
    rows = [
        (
            str(step.minutes),
            f"{step.requests:,}",
            f"{step.records:,}",
            f"{step.resident_bytes / _MEBIBYTE:.1f}",
            _percent(step.read_ratio),
            _percent(step.look_ratio),
            step.state,
        )
        for step in steps
    ]
    head = ("minute", "requests", "records", "resident, MiB", "reading", "verdicts", "verdict")
    return table(head, rows)


def replay_targets(steps: Sequence[hour.Step]) -> list[Row]:
    """Growth of the memory."""
    grown = (steps[-1].resident_bytes - steps[0].resident_bytes) / _MEBIBYTE
    span = f"minutes {steps[0].minutes} to {steps[-1].minutes}"
    return [(f"resident memory, {span}", f"{grown:+.1f} MiB", "flat")]


def scrapes(found: Sequence[scrape.Rendering]) -> str:
    """Rendering and scraping."""
    rows = [
        (
            str(one.series),
            f"{one.format}{', gzip' if one.gzip else ''}",
            f"{one.sent_bytes / 1024:.0f}",
            f"{one.rendered_ms:.1f}",
            f"{one.cpu_ms:.1f}",
            f"{one.wall_ms:.1f}",
        )
        for one in found
    ]
    head = (
        "series", "format", "sent, KiB", "rendering, ms of CPU", "scrape, ms of CPU",
        "scrape, ms from connecting to the last byte",
    )  # fmt: skip
    return table(head, rows)


def scrape_targets(found: Sequence[scrape.Rendering]) -> list[Row]:
    """The dearest way of each snapshot."""
    rows = []
    for load, target in zip(dict.fromkeys(one.load for one in found), (10, 50), strict=True):
        of_load = [one for one in found if one.load == load]
        worst = max(of_load, key=lambda one: one.cpu_ms)
        what = f"scrape, {worst.series} series, {worst.format}{', gzip' if worst.gzip else ''}"
        measured = f"{worst.cpu_ms:.1f} ms of CPU, {worst.wall_ms:.1f} ms in all"
        rows.append((what, measured, f"< {target} ms"))
    return rows


def probe_threads(found: Sequence[threads.Share]) -> str:
    """The probe's threads in the server."""
    rows = [
        (
            one.arm,
            _percent(one.cores),
            ", ".join(f"{name} {_percent(cores)}" for name, cores in one.by_thread.items()),
            f"{one.process_cores:.2f}",
            f"{one.looks_per_second:.0f}",
            f"{one.sampling_ratio:.2f}",
        )
        for one in found
    ]
    head = (
        "server", "probe's threads, of one core", "each", "server, cores", "looks/s",
        "sampling left by the governor",
    )  # fmt: skip
    return table(head, rows)


def probe_targets(found: Sequence[threads.Share]) -> list[Row]:
    """The dearest server."""
    worst = max(found, key=lambda one: one.cores)
    measured = f"{_percent(worst.cores)} of one core"
    return [(f"probe's threads in a server with 64, {worst.arm}", measured, "< 1 %")]


def _by_arm(seconds: Sequence[live.Second]) -> dict[str, list[live.Second]]:
    arms = dict.fromkeys(second.arm for second in seconds)
    return {arm: [second for second in seconds if second.arm == arm] for arm in arms}


def _nanoseconds(turns: Sequence[dict[str, float]], stage: str) -> float:
    return median(turn[stage] for turn in turns)


def _per_second(turns: Sequence[dict[str, float]], stage: str) -> float:
    return round(1e9 / _nanoseconds(turns, stage), -4)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2f} %"
