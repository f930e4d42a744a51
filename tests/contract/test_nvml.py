"""What the sampler of GPUs promises: on our libnvidia-ml.so.1 always, on a driver where there is
one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinchpoint.samplers.nvml_driver import has_driver
from tests.support.fake_nvml import FakeNvml, gpu
from tests.support.fake_nvml_reader import Reader, reading

needs_driver = pytest.mark.skipif(not has_driver(), reason="there is no NVIDIA driver")

COUNTERS = ("energy_joules", "pcie_replays", "ecc_corrected", "ecc_uncorrected")


@pytest.fixture(params=["fake", pytest.param("real", marks=needs_driver)])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Of a process that finds a driver."""
    if request.param == "real":
        return {}
    fake = FakeNvml(tmp_path)
    fake.say(gpu(0), gpu(1), devices=2)
    return fake.environment


@pytest.fixture
def reader(environment: dict[str, str], tmp_path: Path) -> Iterator[Reader]:
    with reading(tmp_path, **environment) as made:
        yield made


def ratios(fields: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in fields.items() if name.endswith("_ratio")}


def test_a_device_is_known_by_its_uuid(reader: Reader) -> None:
    """With its product and the driver's version."""
    gpus = reader.read().gpus()
    assert gpus
    for uuid, fields in gpus.items():
        assert uuid.startswith(("GPU-", "MIG-"))
        assert fields["product_id"]
        assert fields["driver_id"]
        assert fields["index"] >= 0


def test_values_are_in_base_units(reader: Reader) -> None:
    """A driver's MHz, mW, mJ and percents would lie far outside of these bounds."""
    reader.read()
    for fields in reader.read().gpus().values():
        assert all(0.0 <= ratio <= 1.0 for ratio in ratios(fields).values())
        if "memory_total_bytes" in fields:
            assert 0 <= fields["memory_used_bytes"] <= fields["memory_total_bytes"]
            assert fields["memory_total_bytes"] > 1e9
        if "power_watts" in fields:
            assert 1.0 < fields["power_watts"] < 3_000.0
        if "temperature_celsius" in fields:
            assert 5.0 < fields["temperature_celsius"] < 120.0
        if "sm_clock_hertz" in fields:
            assert 1e8 < fields["sm_clock_hertz"] <= fields["sm_clock_max_hertz"] < 1e10


def test_counters_do_not_go_down(reader: Reader) -> None:
    """Nor do the times that clocks were held down."""
    first, second = reader.read().gpus(), reader.read().gpus()
    for uuid, before in first.items():
        counters = [name for name in before if name in COUNTERS or name.startswith("throttled_")]
        assert counters or "parent_id" in before
        for name in counters:
            assert second[uuid][name] >= before[name]


def test_activity_is_known_from_the_second_reading_on(reader: Reader) -> None:
    """It is of the time between the two, where the device has it at all."""
    first, second = reader.read().gpus(), reader.read().gpus()
    for uuid, fields in second.items():
        assert "sm_active_ratio" not in first[uuid]
        active = {name for name in fields if name.endswith("_active_ratio")}
        assert active == set() or {"sm_active_ratio", "dram_active_ratio"} <= active


def test_nothing_is_left_with_the_driver(reader: Reader) -> None:
    """And no call failed."""
    reader.read()
    answer = reader.read()
    assert answer.error is None
    assert answer.errors == 0
    assert reader.close() == 0


def test_a_process_that_may_use_no_device_has_no_reading(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The reason says where to look."""
    with reading(tmp_path, CUDA_VISIBLE_DEVICES="", **environment) as reader:
        answer = reader.read()
    assert answer.samples == []
    assert "CUDA_VISIBLE_DEVICES" in (answer.unavailable or "")
