"""python -m bench.gpu [--json FILE]

On a machine with an NVIDIA GPU: every reading of the sampler beside nvidia-smi's in the same
second, then its activity readings under known work (with a torch that has CUDA). Exit status 2:
there is nothing to measure, and the last line says why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.gpu import smi, work
from bench.gpu.readings import Readings
from pinchpoint.samplers.source import SourceUnavailable

ACTIVITY = (
    "utilization_ratio",
    "sm_active_ratio",
    "sm_occupancy_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
    "fp32_active_ratio",
    "fp16_active_ratio",
    "pcie_receive_bytes_per_second",
    "pcie_transmit_bytes_per_second",
    "power_watts",
)


def compare(readings: Readings) -> list[dict[str, Any]]:
    """Ours, nvidia-smi's and ours again, by device and field."""
    readings.read()
    fields = smi.fields_here()
    time.sleep(1.0)
    before, theirs, after = readings.read(), smi.read(fields), readings.read()
    return [
        {
            "gpu_uuid": uuid,
            "field": field,
            "before": value,
            "nvidia_smi": theirs.get(uuid, {}).get(field),
            "after": after.get(uuid, {}).get(field),
        }
        for uuid, values in before.items()
        for field, value in values.items()
    ]


def under_work(readings: Readings, torch: Any) -> list[dict[str, Any]]:
    """Activity of the devices over each phase of known work."""
    found = []
    for name, run in work.phases(torch).items():
        readings.read()
        run()
        for uuid, values in readings.read().items():
            shown = {field: values.get(field) for field in ACTIVITY}
            found.append({"work": name, "gpu_uuid": uuid, **shown})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys under their names."""
    texts = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in texts
    )


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _torch_with_cuda() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    readings = Readings()
    figures = {}
    try:
        figures["against_nvidia_smi"] = compare(readings)
        if (torch := _torch_with_cuda()) is not None:
            figures["under_work"] = under_work(readings, torch)
    except SourceUnavailable as unavailable:
        print(f"bench.gpu: {unavailable.reason}", file=sys.stderr)
        return 2
    except (OSError, subprocess.SubprocessError) as error:
        print(f"bench.gpu: nvidia-smi does not work here: {error}", file=sys.stderr)
        return 2
    finally:
        readings.close()
    for rows in figures.values():
        print(table(rows), end="\n\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
