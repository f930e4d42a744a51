"""A libnvidia-ml.so.1 of ours: built from `fake_nvml.c`, scripted by a text file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.integration.processes import needed

SOURCE = Path(__file__).with_name("fake_nvml.c")

MIB = 1 << 20

HOPPER = {
    "uuid": "GPU-{0}0000000-0000-0000-0000-000000000000",
    "name": "Fake H100",
    "utilization": 37,
    "memory_utilization": 12,
    "memory_total": 81_920 * MIB,
    "memory_used": 10_240 * MIB,
    "memory_reserved": 500 * MIB,
    "power": 301_500,
    "power_limit": 700_000,
    "energy": 1_234_500,
    "temperature.0": 61,
    "clock.1": 1_755,
    "clock.2": 2_619,
    "clock_max.1": 1_980,
    "violation.0": 5_000_000_000,
    "violation.1": 6_000_000_000,
    "violation.2": 7_000_000_000,
    "violation.3": 8_000_000_000,
    "violation.4": 9_000_000_000,
    "violation.5": 10_000_000_000,
    "supported_reasons": 0x7FF,
    "reasons": 0,
    "pcie.0": 11_000,
    "pcie.1": 22_000,
    "pcie_replays": 3,
    "ecc.0.1": 4,
    "ecc.1.1": 1,
    "ecc.0.0": 40,
    "ecc.1.0": 10,
    "processes": 2,
    "gpm": 1,
    "gpm.1": 40.0,
    "gpm.2": 35.0,
    "gpm.3": 20.0,
    "gpm.5": 15.0,
    "gpm.10": 50.0,
    "gpm.11": 1.0,
    "gpm.12": 2.0,
    "gpm.13": 3.0,
    "gpm.20": 1.5,
    "gpm.21": 2.5,
}
"""A GPU that supports everything, in the library's own units. `{0}` is its index."""

INSTANCE = {
    "uuid": "MIG-00000000-0000-0000-0000-0000000000{0}",
    "name": "Fake H100 MIG 1g.10gb",
    "gpu_instance": 7,
    "memory_total": 9_728 * MIB,
    "memory_used": 1_024 * MIB,
}
"""A MIG instance, as far as the driver tells of one."""


def gpu(index: int, **changes: object) -> dict[str, object]:
    """The lines of a GPU, with changes (dots as `__`; None takes a line out)."""
    return _lines(HOPPER, f"{index}.", str(index), changes)


def instance(of: int, index: int, **changes: object) -> dict[str, object]:
    """The lines of a MIG instance and of its GPU's mode."""
    lines = _lines(INSTANCE, f"{of}.mig.{index}.", f"{of}{index}", changes)
    return lines | {f"{of}.mig": 1}


def _lines(
    base: dict[str, object], prefix: str, number: str, changes: dict[str, object]
) -> dict[str, object]:
    values = base | {key.replace("__", "."): value for key, value in changes.items()}
    return {
        prefix + key: str(value).replace("{0}", number)
        for key, value in values.items()
        if value is not None
    }


class FakeNvml:
    """The library and its script.

    Args:
        directory: for both.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._script = directory / "nvml.txt"
        self.calls_file = directory / "calls.txt"
        command = [needed("gcc"), "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]
        subprocess.run([*command, str(directory / "libnvidia-ml.so.1"), str(SOURCE)], check=True)
        self.say(devices=0)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to load it instead of a real one."""
        return {"LD_LIBRARY_PATH": str(self._directory), "FAKE_NVML": str(self._script)}

    def say(self, *of_devices: dict[str, object], **lines: object) -> None:
        """Replace the script. `lines` are of no device (dots as `__`)."""
        every = {"driver": "570.1", "devices": 0, "calls": self.calls_file}
        for device in of_devices:
            every |= device
        every |= {key.replace("__", "."): value for key, value in lines.items()}
        # A call reads the whole file or the one before.
        fresh = self._script.with_suffix(".new")
        fresh.write_text("".join(f"{key}={value}\n" for key, value in every.items()), "utf-8")
        os.replace(fresh, self._script)

    def calls(self, function: str, device: str = "") -> int:
        """How often a function was called so far, of one device if it is given (`0.`)."""
        if not self.calls_file.exists():
            return 0
        lines = [line.split() for line in self.calls_file.read_text("utf-8").splitlines()]
        return sum(name == function and device in ("", of) for name, of in lines)
