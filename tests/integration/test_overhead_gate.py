"""The one gate on speed: a ratio of two measurements of one run.

A time would depend on the machine and on who else uses it. How many times less than
py-grpc-prometheus the probe adds to an RPC does not: both run the same path in processes that
take turns, on the CPU clock of their thread, and medians are compared.

The target is 6 (`bench/README.md` has the figure). The bound is 3: a probe of half that
quality still passes, one that has lost what made it cheap does not, and the noise of a
busy machine is a few percent of the distance between the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.overhead.rpc_path import Samples, added_ns, times_cheaper
from bench.overhead.variants import BARE, PINCHPOINT, PY_GRPC_PROMETHEUS

pytestmark = pytest.mark.integration

TIMES_CHEAPER_MIN = 2.0
REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 300.0
ARMS = (BARE, PINCHPOINT, PY_GRPC_PROMETHEUS)


@pytest.fixture(scope="module")
def samples() -> Samples:
    """A short run; it raises unless both counted every RPC that was served."""
    path = os.pathsep.join((str(REPOSITORY / "agent"), str(REPOSITORY)))
    amount = ("--generations", "5", "--rounds", "12")
    result = subprocess.run(
        [sys.executable, "-m", "bench.overhead.rpc_path", "sync", *amount, "--arms", *ARMS],
        cwd=REPOSITORY,
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: Samples = json.loads(result.stdout)
    return found


def test_a_request_costs_a_fraction_of_what_py_grpc_prometheus_adds(samples: Samples) -> None:
    """Medians of interleaved rounds, in the middle of five sets of processes."""
    assert times_cheaper(samples, PINCHPOINT, PY_GRPC_PROMETHEUS).median >= TIMES_CHEAPER_MIN


def test_the_peer_really_costs_something(samples: Samples) -> None:
    """Without it the ratio would say nothing."""
    assert added_ns(samples, PY_GRPC_PROMETHEUS).low > 0
