"""`pinchpoint doctor`: what can be read here, and what that means for the verdict."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pinchpoint import __version__
from pinchpoint.commands.agent import default_ring_directory
from pinchpoint.commands.sources import Reading, read_sources
from pinchpoint.detect.labels import LABELS
from pinchpoint.ring.layout import SLOT_COUNTS, plan

MIB = 1 << 20
"""Bytes in the unit that is shown."""


class DoctorCommand:
    """Looks at the machine as a server started here would see it."""

    name = "doctor"
    help = "show what can be read here, and which bottlenecks can be named"
    usage = "pinchpoint doctor"
    description = """\
Tries every source of the probe in this environment and shows what can be read, which labels can be
given with that, and what to change to get the rest. Run it where the server runs: in its container,
with its Python and its user.
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """There are no arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the report."""
        sources = [*read_sources(), _torch()]
        print(f"Pinchpoint {__version__}, Python {platform.python_version()}, {_system()}")
        print("\nenvironment")
        for name, text in _environment():
            print(f"  {name:<26}{text}")
        print(f"\n{'source':<28}{'readable':<10}detail")
        for reading in sources:
            print(f"  {reading.name:<26}{_yes(reading.available):<10}{reading.detail}")
        print(f"\n{'label':<28}{'possible':<10}what to change")
        for verdict in _labels(sources):
            print(f"  {verdict.label:<26}{_yes(verdict.possible):<10}{verdict.change}".rstrip())
        return 0


class _Possible(NamedTuple):
    label: str
    possible: bool
    change: str


def _labels(sources: list[Reading]) -> Iterator[_Possible]:
    by_signal = {reading.signal: reading for reading in sources if reading.signal}
    for label in LABELS:
        missing = [by_signal[s] for s in label.signals if not by_signal[s].available]
        change = "; ".join(f"{reading.name}: {reading.detail}" for reading in missing)
        yield _Possible(label.type, not missing, change)


def _torch() -> Reading:
    version = _version("torch")
    detail = f"torch {version}" if version else "torch is not installed in this Python"
    return Reading("torch", "torch", version is not None, detail)


def _environment() -> Iterator[tuple[str, str]]:
    grpc = _version("grpcio")
    yield "grpc", f"grpcio {grpc}" if grpc else "grpcio is not installed in this Python"
    yield "agent", _agent()
    yield "CPUs", f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"
    yield "ring directory", _ring_directory(default_ring_directory())


def _agent() -> str:
    missing = [
        name for name in ("bcrypt", "prometheus-client", "psutil", "PyYAML") if not _version(name)
    ]
    if not missing:
        return "can run here"
    return f"{' and '.join(missing)} missing: pip install 'pinchpoint[agent]'"


def _ring_directory(directory: Path) -> str:
    """Whether a server could make its ring there: the last part of the path it makes itself."""
    existing = directory if directory.is_dir() else directory.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return f"{directory} cannot be written: make it writable, or set PINCHPOINT_RING_DIR"
    free = shutil.disk_usage(existing).free
    last = plan(SLOT_COUNTS)[-1]
    ring_bytes = last.offset + last.slot_bytes * last.slot_count
    text = f"{directory}, {free // MIB} MiB free, {ring_bytes / MIB:.1f} MiB for each process"
    return (
        text if free > ring_bytes else f"{text}: too little, make room or set PINCHPOINT_RING_DIR"
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _system() -> str:
    system = os.uname()
    return f"{system.sysname} {system.release} {system.machine}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
