"""A virtual environment with the peers, made on demand: `.venv` stays free of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".bench-venv"
PACKAGES = (
    "grpcio",
    "protobuf",
    "py-grpc-prometheus",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-grpc",
)
"""Their versions are in constraints.txt: grpcio is the one that development uses."""

_CONSTRAINTS = REPOSITORY / "constraints.txt"
_STAMP = VENV / "pinchpoint-bench"


def python() -> Path:
    """Its interpreter, after making or renewing the environment if need be.

    Raises:
        RuntimeError: pip could not install the packages.
    """
    interpreter = VENV / "bin" / "python"
    wanted = _wanted()
    if not _STAMP.is_file() or _STAMP.read_text("utf-8") != wanted:
        print(f"{VENV.name}: {', '.join(PACKAGES)}", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", str(VENV))
        (VENV / ".gitignore").write_text("*\n", "utf-8")
        pip = (str(interpreter), "-m", "pip", "install", "--quiet", "--no-input")
        _run(*pip, "--disable-pip-version-check", "--constraint", str(_CONSTRAINTS), *PACKAGES)
        _STAMP.write_text(wanted, "utf-8")
    return interpreter


def variables() -> dict[str, str]:
    """The environment of a process that imports Pinchpoint and the benchmark from here."""
    path = os.pathsep.join((str(REPOSITORY / "agent"), str(REPOSITORY)))
    kept = {name: value for name, value in os.environ.items() if "PINCHPOINT" not in name}
    return {**kept, "PYTHONPATH": path}


def _wanted() -> str:
    parts = (str(REPOSITORY), sys.version, *PACKAGES, _CONSTRAINTS.read_text("utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
