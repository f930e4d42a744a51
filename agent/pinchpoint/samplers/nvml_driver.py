"""Whether there is an NVIDIA driver: a look at a few paths, before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
"""One of them is there where NVIDIA's driver is; the last in WSL 2."""

NO_DRIVER = (
    "no NVIDIA driver is visible where the server runs (/dev/nvidiactl): if it has an NVIDIA GPU, "
    "run it with NVIDIA's container runtime"
)


def has_driver(files: Sequence[Path] | None = None) -> bool:
    """Whether any of the files, by default `DRIVER_FILES`, is there."""
    return any(path.exists() for path in (DRIVER_FILES if files is None else files))
