from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu.smi import known, number, parsed
from tests.support.fake_nvml import HOPPER, MIB, FakeNvml, gpu
from tests.support.scripts import ROOT
from tests.support.waiting import LIMIT_SECONDS

UUID = str(HOPPER["uuid"]).format(0)

HELP = """\
List of valid properties to query for the switch "--query-gpu":

"uuid"
This value is the globally unique immutable alphanumeric identifier of the GPU.

"utilization.gpu"
Percent of time over the past sample period during which one or more kernels was executing.

"power.draw"
The last measured power draw for the entire board, in watts.
"""
LINES = f"{UUID}, 37 %, 301.50 W\n"

SMI = f"""#!/bin/sh
case $1 in
--help-query-gpu) cat <<'END'
{HELP}
END
;;
*) echo '{LINES.strip()}' ;;
esac
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("37 %", 0.37),
        ("301.50 W", 301.5),
        ("10240 MiB", 10_240 * MIB),
        ("1755 MHz", 1_755e6),
        ("61", 61.0),
        ("12 us", 12_000.0),
        ("[N/A]", None),
        ("[Not Supported]", None),
        ("[Unknown Error]", None),
        ("7 furlongs", None),
        ("", None),
    ],
)
def test_values_are_read_by_the_unit_behind_them(text: str, value: float | None) -> None:
    """One in an unknown unit is no value."""
    assert number(text) == (None if value is None else pytest.approx(value))


def test_a_line_is_a_gpu() -> None:
    """What it does not tell is left out."""
    lines = [f"{UUID}, 37 %, [N/A]", "GPU-1, 0 %, 60.00 W"]
    assert parsed(lines, ("utilization_ratio", "power_watts")) == {
        UUID: {"utilization_ratio": 0.37},
        "GPU-1": {"utilization_ratio": 0.0, "power_watts": 60.0},
    }


def test_only_what_this_nvidia_smi_has_is_asked() -> None:
    """It refuses a query with a name that it does not know."""
    assert known(HELP) == {"utilization_ratio": "utilization.gpu", "power_watts": "power.draw"}


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(directory), os.environ["PATH"]))
    source = os.pathsep.join((str(ROOT / "agent"), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu", *arguments],
        env=os.environ | {"PATH": path, "PYTHONPATH": source} | environment,
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_SECONDS,
        check=False,
    )


def test_the_driver_is_set_against_nvidia_smi(tmp_path: Path) -> None:
    """On a driver and an nvidia-smi of ours."""
    fake = FakeNvml(tmp_path)
    fake.say(gpu(0), devices=1)
    smi = tmp_path / "nvidia-smi"
    smi.write_text(SMI, "utf-8")
    smi.chmod(0o755)
    done = run(tmp_path, "--json", str(tmp_path / "figures.json"), **fake.environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text("utf-8"))["against_nvidia_smi"]
    by_field = {row["field"]: row for row in rows}
    assert by_field["power_watts"] == {
        "gpu_uuid": UUID,
        "field": "power_watts",
        "before": 301.5,
        "nvidia_smi": 301.5,
        "after": 301.5,
    }
    assert by_field["sm_active_ratio"]["nvidia_smi"] is None
    assert "power_watts" in done.stdout


def test_without_a_gpu_there_is_nothing_to_measure(tmp_path: Path) -> None:
    """And the last line says why."""
    fake = FakeNvml(tmp_path)
    done = run(tmp_path, **fake.environment)
    assert done.returncode == 2
    assert done.stderr.startswith("bench.gpu: the NVIDIA driver shows no GPU")
