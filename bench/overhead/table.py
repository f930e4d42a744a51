"""The figures as Markdown, between the markers of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench.overhead.end_to_end import ARMS, Round

_BEGIN, _END = "<!-- overhead: begin -->", "<!-- overhead: end -->"


def end_to_end(results: Sequence[Round]) -> str:
    """Medians of each arm, and medians of its ratios to bare of the same round."""
    lines = [
        "| server | throughput, requests/s | ratio to bare | median latency, ms | ratio to bare |",
        "|---|---|---|---|---|",
    ]
    for arm in ARMS:
        throughput = _column(results, arm, lambda r: r.together.requests_per_second)
        latency = _column(results, arm, lambda r: r.alone.p50_seconds * 1e3)
        lines.append(f"| {arm} | {throughput} | {latency} |")
    return "\n".join(lines)


def _column(results: Sequence[Round], arm: str, value: Callable[[Round], float]) -> str:
    of_arm = {r.round: value(r) for r in results if r.arm == arm}
    bare = {r.round: value(r) for r in results if r.arm == ARMS[0]}
    ratios = sorted(of_arm[number] / bare[number] for number in of_arm)
    spread = f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    return f"{median(of_arm.values()):.1f} | {'1' if arm == ARMS[0] else spread}"


def per_call(figures: dict[str, float]) -> str:
    """Microseconds of each path."""
    lines = ["| path | added, µs |", "|---|---|"]
    lines += [f"| {path} | {ns / 1e3:.2f} |" for path, ns in figures.items()]
    return "\n".join(lines)


def replace_between_markers(path: Path, text: str) -> None:
    """Put `text` between the markers of the file, keeping the rest."""
    before, rest = path.read_text("utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    path.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")
