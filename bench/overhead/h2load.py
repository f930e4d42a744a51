"""h2load of Debian's nghttp2-client, a client in C, made to speak gRPC."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from bench.overhead.echo import MESSAGE, PATH

_LIMIT_SECONDS = 60.0
_HEADERS = ("content-type: application/grpc", "te: trailers")


@dataclass(frozen=True)
class Load:
    """What the client saw."""

    per_second: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Shape:
    """How the client loads the server."""

    name: str
    connections: int
    streams: int


SHAPES = (Shape("c=1", 1, 1), Shape("c=4 m=4", 4, 4))


def available() -> bool:
    """Whether it is installed."""
    return shutil.which("h2load") is not None


def run(port: int, shape: Shape, requests: int) -> Load:
    """Send `requests` requests.

    Raises:
        RuntimeError: not all of them were answered.
    """
    with tempfile.TemporaryDirectory() as directory:
        body, log = Path(directory, "body"), Path(directory, "log")
        body.write_bytes(b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE)
        headers = [argument for header in _HEADERS for argument in ("-H", header)]
        load = ["-n", str(requests), "-c", str(shape.connections), "-m", str(shape.streams)]
        load += ["-d", str(body), "--log-file", str(log)]
        result = subprocess.run(
            ["h2load", *load, *headers, f"http://127.0.0.1:{port}{PATH}"],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        if f"{requests} succeeded, 0 failed" not in result.stdout:
            raise RuntimeError(f"h2load failed:\n{result.stdout}{result.stderr}")
        return _load([tuple(map(int, line.split())) for line in log.read_text().splitlines()])


def _load(log: Sequence[tuple[int, ...]]) -> Load:
    """From h2load's log: start in microseconds, HTTP status, microseconds to the end."""
    began, ended = min(line[0] for line in log), max(line[0] + line[2] for line in log)
    percentiles = quantiles([line[2] for line in log], n=100)
    return Load(len(log) / (ended - began) * 1e6, percentiles[49], percentiles[98])
