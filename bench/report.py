"""Tables in Markdown, and where they and their samples are kept."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

_SAMPLE_DIGITS = 3


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_between_markers(path: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- NAME: begin -->` and `<!-- NAME: end -->`, keeping the rest."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = path.read_text("utf-8").split(begin)
    _, after = rest.split(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def keep(path: Path, samples: Iterable[dict[str, Any]]) -> None:
    """Samples as JSON, one a line."""
    lines = ",\n".join(json.dumps(_rounded(sample)) for sample in samples)
    path.write_text(f"[\n{lines}\n]\n", "utf-8")


def where() -> str:
    """The day, the machine and the Python."""
    return (
        f"{date.today()}, {os.cpu_count()} CPUs ({_cpu_model()}), Python "
        f"{platform.python_version()}."
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, _SAMPLE_DIGITS) if isinstance(value, float) else value


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
