"""The demo server bare, bare again, and with the probe: interleaved rounds, paired ratios.

The second bare arm is the control: what it differs from the first by is noise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.overhead import environment
from bench.overhead.closed_loop import Load, run

ARMS = ("bare", "bare again", "probe")
ALONE, TOGETHER = 1, 4
"""Callers: one for latency, four for throughput."""

_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Round:
    """One arm's figures in one round."""

    arm: str
    round: int
    alone: Load
    together: Load


def rounds(count: int, seconds: float) -> Iterator[Round]:
    """Run `count` rounds; the order of the arms turns by one each round."""
    for number in range(count):
        for place in range(len(ARMS)):
            arm = ARMS[(number + place) % len(ARMS)]
            with _server(arm == "probe") as address:
                run(address, TOGETHER, 1.0)  # warm-up: lazy threads, caches
                yield Round(
                    arm, number, run(address, ALONE, seconds), run(address, TOGETHER, seconds)
                )


@contextmanager
def _server(with_probe: bool) -> Iterator[str]:
    """The demo server in a process of its own; its address."""
    serve = [sys.executable, "-m", "examples.image_classifier", "--listen", "127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as ring_dir:
        wrapped = [sys.executable, "-m", "pinchpoint", "run", "--no-agent", "--ring-dir", ring_dir]
        process = subprocess.Popen(
            [*wrapped, "--", *serve] if with_probe else serve,
            cwd=environment.REPOSITORY,
            env=environment.variables(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"the server did not start; it printed {line!r}")
            if with_probe and not list(Path(ring_dir).glob("*.ring")):
                raise RuntimeError("the probe did not start: there is no ring")
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
