"""The real cgroup v2: on a machine of its own our samplers say what the kernel's files say.

One boot for all. `guest_readings` runs there: a group under a CPU quota and a memory limit, which
was throttled, lost a process to the limit, and gave up pages and read them again.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration import guest_readings
from tests.integration.processes import needed
from tests.support.scripts import ROOT

pytestmark = pytest.mark.integration

LIMIT_SECONDS = 480
"""12 s on an idle machine, the fetching of the guest's packages included 20 s."""

Values = dict[str, float | None]


@dataclass(frozen=True)
class View:
    """What a process of the guest saw at one moment."""

    membership: str
    inode: int
    usage_usec: tuple[int, int]
    kernel: dict[str, int]
    samples: list[tuple[str, Values]]

    def sample(self, kind: str, instance: int = 0) -> Values:
        """The one sample of a kind and instance."""
        (found,) = [v for k, v in self.samples if k == kind and v["instance"] == instance]
        return found


@pytest.fixture(scope="module")
def views() -> dict[str, View]:
    """Both views of `guest_readings`."""
    needed("qemu-system-x86_64")
    needed("apt-get")
    ran = subprocess.run(
        [ROOT / "scripts/cgroup-guest", guest_readings.__file__],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, dict[str, Any]] = json.loads(ran.stdout)
    return {name: View(**view) for name, view in found.items()}


@pytest.fixture(params=["container", "child"])
def view(views: dict[str, View], request: pytest.FixtureRequest) -> View:
    """Each of them."""
    return views[request.param]


def test_each_view_is_the_one_it_is_meant_to_be(views: dict[str, View]) -> None:
    """A namespace calls the container's group the root; the other's has a name."""
    assert views["container"].membership == "0::/\n"
    assert views["child"].membership == "0::/parent/child\n"


def test_throttling_is_the_kernels(view: View) -> None:
    """Those of the group that has the quota, and the quota is the one of now."""
    reading, kernel = view.sample("CgroupCpuSample"), view.kernel
    assert kernel["cpu.stat nr_throttled"] >= guest_readings.THROTTLED_PERIODS
    assert kernel["cpu.stat throttled_usec"] > 0
    assert (reading["version"], reading["inode"]) == (2, view.inode)
    assert reading["periods"] == kernel["cpu.stat nr_periods"]
    assert reading["throttled_periods"] == kernel["cpu.stat nr_throttled"]
    assert reading["throttled_ns"] == kernel["cpu.stat throttled_usec"] * 1_000
    assert reading["limit_cores"] == 1.5


def test_usage_is_between_the_readings_before_and_after(view: View) -> None:
    """It grows while it is read."""
    before, after = view.usage_usec
    usage_ns = view.sample("CgroupCpuSample")["usage_ns"]
    assert usage_ns is not None
    assert 0 < before <= usage_ns / 1_000 <= after


def test_memory_is_the_kernels(view: View) -> None:
    """Pages of the disk that can be dropped are not in the working set."""
    reading, kernel = view.sample("CgroupMemorySample"), view.kernel
    assert kernel["memory.stat inactive_file"] > 0
    assert kernel["memory.stat anon"] > guest_readings.KEPT_BYTES
    assert reading["inode"] == view.inode
    assert reading["usage_bytes"] == kernel["memory.current"]
    assert reading["working_set_bytes"] == (
        kernel["memory.current"] - kernel["memory.stat inactive_file"]
    )
    assert reading["anonymous_bytes"] == kernel["memory.stat anon"]
    assert reading["file_bytes"] == kernel["memory.stat file"]
    assert reading["swap_bytes"] == kernel["memory.swap.current"]


def test_the_memory_limit_and_what_it_did_are_the_kernels(view: View) -> None:
    """One process was killed, and charges were refused before."""
    reading, kernel = view.sample("CgroupMemorySample"), view.kernel
    assert kernel["memory.events oom_kill"] == 1
    assert kernel["memory.events max"] > 0
    assert reading["limit_bytes"] == kernel["memory.max"] == guest_readings.LIMIT_BYTES
    assert reading["oom_kills"] == kernel["memory.events oom_kill"]
    assert reading["limit_hits"] == kernel["memory.events max"]
    assert reading["high_events"] == kernel["memory.events high"]
    assert reading["peak_bytes"] == kernel["memory.peak"]


@pytest.mark.parametrize("scope", ["system", "container"])
def test_pressure_is_the_kernels(view: View, scope: str) -> None:
    """All totals, but the system's `cpu full`, which the kernel leaves undefined."""
    reading, kernel = view.sample("PressureSample", guest_readings.SCOPES.index(scope)), view.kernel
    for resource in ("cpu", "memory", "io"):
        for kind in ("some", "full"):
            total_ns = kernel[f"{scope} {resource} {kind}"] * 1_000
            undefined = (scope, resource, kind) == ("system", "cpu", "full")
            assert reading[f"{resource}_{kind}_ns"] == (None if undefined else total_ns)


def test_the_container_had_pressure(view: View) -> None:
    """Of every kind: a comparison of zeros would say nothing."""
    for resource in ("cpu", "memory", "io"):
        assert view.kernel[f"container {resource} some"] > 0, resource
