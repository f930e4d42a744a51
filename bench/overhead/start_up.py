"""What the probe costs a Python process that imports neither grpc nor torch."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.overhead import environment
from bench.overhead.interleaved import shuffled
from pinchpoint.commands.run import INJECT

BARE, BARE_AGAIN, OFF, ON = "bare", "bare again", "switched off", "on"
ARMS = {
    BARE: {},
    BARE_AGAIN: {},
    OFF: {"PYTHONPATH": str(INJECT), "PINCHPOINT_DISABLE": "1"},
    ON: {"PYTHONPATH": str(INJECT)},
}
"""As `pinchpoint run` starts its command; switched off by the kill switch."""


@dataclass(frozen=True)
class Start:
    """One process from its start to its end, in milliseconds."""

    arm: str
    round: int
    wall_ms: float
    cpu_ms: float


def starts(rounds: int) -> Iterator[Start]:
    """Start every arm in every round, in a new order each. The first round is not told."""
    command = (str(environment.python()), "-c", "pass")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    orders = shuffled(list(ARMS))
    for number in range(-1, rounds):
        for arm in next(orders):
            begin_ns = time.perf_counter_ns()
            process = subprocess.Popen(command, env=kept | ARMS[arm])
            _, status, used = os.wait4(process.pid, 0)
            wall_ms = (time.perf_counter_ns() - begin_ns) / 1e6
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f"{arm}: Python ended with {process.returncode}")
            if number >= 0:
                yield Start(arm, number, wall_ms, (used.ru_utime + used.ru_stime) * 1e3)
