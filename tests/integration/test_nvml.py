"""A GPU as an operator sees it: a probed server on a driver of ours, an agent beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pinchpoint.schema.samples import GpuSample, ProcessSample, SignalSample
from tests.integration.processes import ANY_PORT, PINCHPOINT, Programs, programs
from tests.integration.scraping import Endpoint, endpoint_of
from tests.support.fake_nvml import HOPPER, FakeNvml, gpu
from tests.support.rings import Contents, ring_with
from tests.support.scripts import ECHO_SERVER, Script, running

pytestmark = pytest.mark.integration

UUID_0, UUID_1 = (str(HOPPER["uuid"]).format(index) for index in range(2))

SERVER = (
    ECHO_SERVER
    + """
import os
import threading
from pathlib import Path

from pinchpoint.samplers import nvml_driver

nvml_driver.DRIVER_FILES = (Path(os.environ.get("FAKE_NVML", "/nowhere")),)
pinchpoint.install()
server, port = echo_server()
say(port)
for line in sys.stdin:
    if line.strip() == "call":
        say(call_echo(port, 1))
    else:
        modules = [name for name in sys.modules if name in ("pynvml", "pinchpoint.samplers.nvml")]
        say(*modules, *(t.name for t in threading.enumerate() if t.name == "pinchpoint-gpu"))
"""
)
"""Told `call` it echoes to itself and says how many answers were right, else it says what is
loaded and runs for the sake of GPUs."""


@pytest.fixture
def fake(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path)


@pytest.fixture
def server(fake: FakeNvml, ring_dir: Path) -> Iterator[Script]:
    fake.say(gpu(0), gpu(1), devices=2)
    with running(SERVER, ring_dir, **fake.environment) as script:
        assert script.line()
        yield script


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as of_the_test:
        yield of_the_test


@pytest.fixture
def agent(started: Programs, server: Script, ring_dir: Path) -> Endpoint:
    """Beside a server that runs already."""
    return endpoint_of(started.start(*PINCHPOINT, "agent", ANY_PORT, f"--ring-dir={ring_dir}"))


def gpus(found: Contents, uuid: str) -> list[GpuSample]:
    return [sample for sample in found.of(GpuSample) if found.text(sample.instance) == uuid]


def signals(found: Contents) -> list[tuple[float | None, str]]:
    """Of the GPUs: available or not, and why."""
    return [
        (signal.available, found.text(signal.reason_id) if signal.reason_id else "")
        for signal in found.of(SignalSample)
        if found.text(signal.instance) == "nvml"
    ]


def test_the_series_of_a_gpu_are_those_of_the_driver(
    fake: FakeNvml, server: Script, agent: Endpoint
) -> None:
    """With what it is, and counters that count from the agent's start."""
    metrics = agent.scrape_when(lambda m: m.values("pinchpoint_gpu_sm_active_ratio"))
    for uuid, index in ((UUID_0, "0"), (UUID_1, "1")):
        assert metrics.values("pinchpoint_gpu_power_watts", gpu_uuid=uuid) == [301.5]
        assert metrics.values("pinchpoint_gpu_sm_active_ratio", gpu_uuid=uuid) == [
            pytest.approx(0.35)
        ]
        (info,) = (
            sample.labels
            for sample in metrics.samples
            if sample.name == "pinchpoint_gpu_info" and sample.labels["gpu_uuid"] == uuid
        )
        assert info == {
            "gpu_uuid": uuid,
            "index": index,
            "name": "Fake H100",
            "driver": "570.1",
            "parent": "",
        }
    assert metrics.values("pinchpoint_signal_available", signal="nvml") == [1.0]
    fake.say(gpu(0, energy=1_236_500), gpu(1), devices=2, xids="0:79")
    metrics = agent.scrape_when(lambda m: m.total("pinchpoint_gpu_xid_errors_total"))
    assert metrics.values("pinchpoint_gpu_xid_errors_total", gpu_uuid=UUID_0, xid="79") == [1.0]
    metrics = agent.scrape_when(lambda m: m.total("pinchpoint_gpu_energy_joules_total"))
    assert metrics.values("pinchpoint_gpu_energy_joules_total", gpu_uuid=UUID_0) == [2.0]


def test_the_series_of_a_lost_gpu_end(fake: FakeNvml, server: Script, agent: Endpoint) -> None:
    """Its neighbour's go on, and the loss is an error."""
    power = "pinchpoint_gpu_power_watts"
    agent.scrape_when(lambda m: m.values(power, gpu_uuid=UUID_1))
    fake.say(gpu(0), gpu(1, lost=1), devices=2)
    metrics = agent.scrape_when(lambda m: not m.values(power, gpu_uuid=UUID_1))
    assert metrics.values(power, gpu_uuid=UUID_1) == []
    assert metrics.values("pinchpoint_gpu_info", gpu_uuid=UUID_1) == []
    assert metrics.values(power, gpu_uuid=UUID_0) == [301.5]
    errors = "pinchpoint_sampler_errors_total"
    metrics = agent.scrape_when(lambda m: m.total(errors, sampler="nvml"))
    assert metrics.total(errors, sampler="nvml") == 1.0


def test_a_call_that_hangs_stops_nothing_else(
    fake: FakeNvml, server: Script, ring_dir: Path, tmp_path: Path
) -> None:
    """The server answers, the other samplers go on, the hang is said; and it passes."""
    ring_with(ring_dir, lambda found: gpus(found, UUID_0))
    held = tmp_path / "held"
    held.touch()
    fake.say(gpu(0), gpu(1), devices=2, hang__nvmlDeviceGetPowerUsage=held)
    found = ring_with(ring_dir, lambda found: not signals(found)[-1][0])
    available, reason = signals(found)[-1]
    assert not available
    assert "has not returned" in reason
    assert gpus(found, UUID_0)[-1].power_watts is None
    server.tell("call")
    assert server.line() == "1"
    processes = len(found.of(ProcessSample))
    ring_with(ring_dir, lambda found: len(found.of(ProcessSample)) > processes + 1)
    held.unlink()
    found = ring_with(ring_dir, lambda found: gpus(found, UUID_0)[-1].power_watts)
    assert gpus(found, UUID_0)[-1].power_watts == 301.5
    assert signals(found)[-1] == (1, "")


def test_a_machine_without_a_driver_says_so_and_loads_nothing(ring_dir: Path) -> None:
    """Neither a module nor a thread."""
    with running(SERVER, ring_dir) as server:
        assert server.line()
        ((available, reason),) = signals(ring_with(ring_dir, signals))
        assert not available
        assert "/dev/nvidiactl" in reason
        server.tell("loaded")
        assert server.line() == ""


def test_a_machine_with_one_has_a_thread_for_it(server: Script, ring_dir: Path) -> None:
    """Which loads what it needs."""
    ring_with(ring_dir, lambda found: gpus(found, UUID_0))
    server.tell("loaded")
    assert set(server.line().split()) == {"pinchpoint.samplers.nvml", "pynvml", "pinchpoint-gpu"}
