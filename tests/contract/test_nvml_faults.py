"""The sampler of GPUs on a driver that lacks, fails, loses and divides: ours, by script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_nvml import HOPPER, MIB, FakeNvml, gpu, instance
from tests.support.fake_nvml_reader import PROGRAM, Reader, reading

UUID_0, UUID_1 = (str(HOPPER["uuid"]).format(index) for index in range(2))
MIG_0 = "MIG-00000000-0000-0000-0000-000000000000"
MIG_1 = "MIG-00000000-0000-0000-0000-000000000001"

GONE_SECONDS = 11.0
"""After which it is looked again which devices there are."""


@pytest.fixture
def fake(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path)


@pytest.fixture
def reader(fake: FakeNvml, tmp_path: Path) -> Iterator[Reader]:
    with reading(tmp_path, **fake.environment) as made:
        yield made


def test_every_field_is_read_in_its_unit(fake: FakeNvml, reader: Reader) -> None:
    """Against what the script says, in the library's units."""
    fake.say(gpu(0), devices=1)
    reader.read()
    assert reader.read().gpus() == {
        UUID_0: {
            "index": 0,
            "product_id": "Fake H100",
            "driver_id": "570.1",
            "utilization_ratio": 0.37,
            "memory_utilization_ratio": 0.12,
            "memory_used_bytes": 10_240 * MIB,
            "memory_total_bytes": 81_920 * MIB,
            "power_watts": 301.5,
            "power_limit_watts": 700.0,
            "energy_joules": 1_234.5,
            "temperature_celsius": 61,
            "sm_clock_hertz": 1_755e6,
            "sm_clock_max_hertz": 1_980e6,
            "memory_clock_hertz": 2_619e6,
            "throttled_power_ns": 5e9,
            "throttled_thermal_ns": 6e9,
            "throttled_sync_boost_ns": 7e9,
            "throttled_board_limit_ns": 8e9,
            "throttled_low_utilization_ns": 9e9,
            "throttled_reliability_ns": 10e9,
            "throttled_hardware_ns": 0,
            "pcie_transmit_bytes_per_second": 1.5 * MIB,
            "pcie_receive_bytes_per_second": 2.5 * MIB,
            "pcie_replays": 3,
            "ecc_corrected": 4,
            "ecc_uncorrected": 1,
            "processes": 2,
            "sm_active_ratio": pytest.approx(0.35),
            "sm_occupancy_ratio": pytest.approx(0.20),
            "tensor_active_ratio": pytest.approx(0.15),
            "dram_active_ratio": pytest.approx(0.50),
            "fp64_active_ratio": pytest.approx(0.01),
            "fp32_active_ratio": pytest.approx(0.02),
            "fp16_active_ratio": pytest.approx(0.03),
        }
    }


def test_what_a_device_does_not_support_is_absent_and_asked_once(
    fake: FakeNvml, reader: Reader
) -> None:
    """The rest is read as ever, and nothing counts as an error."""
    fake.say(gpu(0, power=None, error__nvmlDeviceGetTotalEnergyConsumption=4), devices=1)
    for _ in range(3):
        answer = reader.read()
    fields = answer.gpu()
    assert "power_watts" not in fields
    assert "energy_joules" not in fields
    assert fields["temperature_celsius"] == 61
    assert answer.errors == 0
    assert fake.calls("nvmlDeviceGetPowerUsage") == 1
    assert fake.calls("nvmlDeviceGetTotalEnergyConsumption") == 1
    assert fake.calls("nvmlDeviceGetTemperature") == 3


def test_a_call_that_fails_is_counted_and_tried_again(fake: FakeNvml, reader: Reader) -> None:
    """An unknown error says nothing of the next second."""
    fake.say(gpu(0, error__nvmlDeviceGetPowerUsage=999), devices=1)
    answer = reader.read()
    assert "power_watts" not in answer.gpu()
    assert answer.errors == 1
    fake.say(gpu(0), devices=1)
    assert reader.read().gpu()["power_watts"] == 301.5


def test_a_call_without_data_is_no_error(fake: FakeNvml, reader: Reader) -> None:
    """The driver has none yet."""
    fake.say(gpu(0, error__nvmlDeviceGetUtilizationRates=21), devices=1)
    answer = reader.read()
    assert "utilization_ratio" not in answer.gpu()
    assert answer.errors == 0
    fake.say(gpu(0), devices=1)
    assert reader.read().gpu()["utilization_ratio"] == 0.37


def test_a_lost_device_ends_and_the_others_go_on(fake: FakeNvml, reader: Reader) -> None:
    """Nothing of it stays; it is one error however long it is lost."""
    fake.say(gpu(0), gpu(1), devices=2)
    assert reader.read().gpus().keys() == {UUID_0, UUID_1}
    fake.say(gpu(0), gpu(1, lost=1), devices=2)
    for _ in range(3):
        answer = reader.read()
        assert answer.gpus()[UUID_1] == {}
        assert answer.gpus()[UUID_0]["power_watts"] == 301.5
        assert answer.errors == 1
    assert reader.read(GONE_SECONDS).gpus()[UUID_1] == {}


def test_a_device_that_was_lost_comes_back(fake: FakeNvml, reader: Reader) -> None:
    """Once it answers again."""
    fake.say(gpu(0), devices=1)
    reader.read()
    fake.say(gpu(0, lost=1), devices=1)
    assert reader.read().gpus() == {UUID_0: {}}
    fake.say(gpu(0), devices=1)
    assert reader.read(GONE_SECONDS).gpu()["power_watts"] == 301.5
    assert reader.close() == 0


def test_a_device_that_is_lost_from_the_start_does_not_hide_the_others(
    fake: FakeNvml, reader: Reader
) -> None:
    """They keep their index."""
    fake.say(gpu(0, lost=1), gpu(1), devices=2)
    gpus = reader.read().gpus()
    assert gpus.keys() == {UUID_1}
    assert gpus[UUID_1]["index"] == 1


def test_a_library_that_somebody_has_shut_down_is_started_again(
    fake: FakeNvml, reader: Reader
) -> None:
    """The server may use it, too."""
    fake.say(gpu(0), devices=1)
    reader.read()
    fake.say(
        gpu(0, error__nvmlDeviceGetUtilizationRates=1), devices=1, error__nvmlDeviceGetCount_v2=1
    )
    assert reader.read(GONE_SECONDS).gpus() == {UUID_0: {}}
    fake.say(gpu(0), devices=1)
    reader.read(GONE_SECONDS)
    assert reader.read().gpu()["power_watts"] == 301.5
    assert fake.calls("nvmlInitWithFlags") == 2


def test_reserved_memory_is_not_used_memory(fake: FakeNvml, reader: Reader) -> None:
    """But an old driver does not tell them apart."""
    fake.say(gpu(0, error__nvmlDeviceGetMemoryInfo_v2=13), devices=1)
    assert reader.read().gpu()["memory_used_bytes"] == 10_740 * MIB


def test_pcie_throughput_is_measured_where_there_is_no_activity(
    fake: FakeNvml, reader: Reader
) -> None:
    """By the call that takes 20 ms, which is not made elsewhere."""
    fake.say(gpu(0, gpm=0), gpu(1), devices=2)
    reader.read()
    fields = reader.read().gpus()[UUID_0]
    assert fields["pcie_transmit_bytes_per_second"] == 11e6
    assert fields["pcie_receive_bytes_per_second"] == 22e6
    assert fake.calls("nvmlDeviceGetPcieThroughput", "0.") == 4
    assert fake.calls("nvmlDeviceGetPcieThroughput", "1.") == 2


def test_an_empty_list_of_processes_says_nothing(fake: FakeNvml, reader: Reader) -> None:
    """A container that hides them shows the same."""
    fake.say(gpu(0, processes=0), devices=1)
    assert "processes" not in reader.read().gpu()


def violations(value: object) -> dict[str, object]:
    return {f"violation__{policy}": value for policy in range(6)}


def test_throttling_is_counted_by_fields_where_the_function_is_gone(
    fake: FakeNvml, reader: Reader
) -> None:
    """They are the same counters."""
    fields = {f"field__{74 + policy}": 1_000 + policy for policy in range(6)}
    fake.say(gpu(0, error__nvmlDeviceGetViolationStatus=13, **fields), devices=1)
    found = reader.read().gpu()
    assert found["throttled_power_ns"] == 1_000
    assert found["throttled_reliability_ns"] == 1_005


def test_throttling_without_counters_is_the_time_that_a_reason_held(
    fake: FakeNvml, reader: Reader
) -> None:
    """A reason that the device cannot give has no time."""
    unsupported = violations(None)
    known = 0x004 | 0x020 | 0x040 | 0x008
    fake.say(gpu(0, supported_reasons=known, reasons=0x004, **unsupported), devices=1)
    assert reader.read().gpu()["throttled_power_ns"] == 0
    assert reader.read(1.5).gpu()["throttled_power_ns"] == 1.5e9
    fake.say(gpu(0, supported_reasons=known, reasons=0x040, **unsupported), devices=1)
    fields = reader.read(1.0).gpu()
    times = {name: value for name, value in fields.items() if name.startswith("throttled_")}
    assert times == {
        "throttled_power_ns": 1.5e9,
        "throttled_thermal_ns": 1e9,
        "throttled_hardware_ns": 1e9,
    }


def test_a_gap_in_the_readings_is_not_throttled_time(fake: FakeNvml, reader: Reader) -> None:
    """What held the clocks meanwhile is not known."""
    fake.say(gpu(0, reasons=0x008), devices=1)
    reader.read()
    assert reader.read(3600.0).gpu()["throttled_hardware_ns"] == 2e9


def test_xid_errors_are_counted_from_zero(fake: FakeNvml, reader: Reader) -> None:
    """A reader of counters needs the zero to see the first."""
    fake.say(gpu(0), gpu(1), devices=2)
    assert reader.read().xids() == []
    fake.say(gpu(0), gpu(1), devices=2, xids="1:79,0:31,1:79")
    first = f"{UUID_1} 79", f"{UUID_0} 31"
    assert reader.read().xids() == [(first[0], 0), (first[1], 0), (first[0], 2), (first[1], 1)]
    fake.say(gpu(0), gpu(1, lost=1), devices=2, xids="1:79,0:31,1:79,1:79")
    assert reader.read(GONE_SECONDS).xids() == [(first[0], 3), (first[1], 1)]
    assert fake.calls("nvmlDeviceRegisterEvents", "0.") == 1


def test_a_device_without_events_has_no_xid_errors(fake: FakeNvml, reader: Reader) -> None:
    """And is read otherwise."""
    fake.say(gpu(0, error__nvmlDeviceRegisterEvents=3), devices=1, xids="0:79")
    answer = reader.read()
    assert answer.xids() == []
    assert answer.errors == 0
    assert answer.gpu()["power_watts"] == 301.5


def test_mig_instances_are_devices_with_a_parent(fake: FakeNvml, reader: Reader) -> None:
    """Their activity comes from the GPU's counters, and stands in for the utilization that the
    driver does not tell."""
    activity = {"gpm__mig__7__1": 80.0, "gpm__mig__7__2": 60.0, "gpm__mig__7__10": 30.0}
    whole = gpu(0, error__nvmlDeviceGetUtilizationRates=3, **activity)
    fake.say(whole, instance(0, 0), instance(0, 1, gpu_instance=8), devices=1)
    reader.read()
    gpus = reader.read().gpus()
    assert gpus.keys() == {UUID_0, MIG_0, MIG_1}
    assert gpus[MIG_0] == {
        "index": 0,
        "product_id": "Fake H100 MIG 1g.10gb",
        "driver_id": "570.1",
        "parent_id": UUID_0,
        "utilization_ratio": 0.8,
        "memory_used_bytes": 1_024 * MIB,
        "memory_total_bytes": 9_728 * MIB,
        "sm_active_ratio": 0.6,
        "dram_active_ratio": 0.3,
    }
    assert "utilization_ratio" not in gpus[MIG_1]
    assert gpus[UUID_0]["temperature_celsius"] == 61
    assert reader.close() == 0


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("1", {UUID_1}),
        ("1,0", {UUID_0, UUID_1}),
        ("0,7,1", {UUID_0}),
        ("-1", None),
        (UUID_1, {UUID_1}),
        ("GPU-1", {UUID_1}),
        ("GPU-", None),
        ("GPU-nobody", None),
    ],
)
def test_only_the_devices_that_cuda_shows_are_read(
    fake: FakeNvml, tmp_path: Path, visible: str, found: set[str] | None
) -> None:
    """By index or by the beginning of a UUID, up to the first that names nothing."""
    fake.say(gpu(0), gpu(1), devices=2)
    with reading(tmp_path, CUDA_VISIBLE_DEVICES=visible, **fake.environment) as reader:
        answer = reader.read()
    assert answer.gpus().keys() == (found or set())
    assert (answer.unavailable is not None) == (found is None)


@pytest.mark.parametrize("visible", [MIG_1, f"MIG-{UUID_0}/8/0"])
def test_of_a_divided_gpu_only_the_instance_that_cuda_shows_is_read(
    fake: FakeNvml, tmp_path: Path, visible: str
) -> None:
    """And the GPU that it is part of: their heat and power are one."""
    fake.say(gpu(0), instance(0, 0), instance(0, 1, gpu_instance=8), devices=1)
    with reading(tmp_path, CUDA_VISIBLE_DEVICES=visible, **fake.environment) as reader:
        assert reader.read().gpus().keys() == {UUID_0, MIG_1}


def test_an_index_among_unlike_gpus_is_no_answer(fake: FakeNvml, tmp_path: Path) -> None:
    """CUDA counts the fastest first, NVML by slot, unless CUDA is told to."""
    fake.say(gpu(0), gpu(1, name="Fake T4"), devices=2)
    environment = fake.environment | {"CUDA_VISIBLE_DEVICES": "1"}
    with reading(tmp_path, **environment) as reader:
        assert reader.read().gpus().keys() == {UUID_0, UUID_1}
    with reading(tmp_path, CUDA_DEVICE_ORDER="PCI_BUS_ID", **environment) as reader:
        assert reader.read().gpus().keys() == {UUID_1}


def test_devices_that_the_server_gives_up_end(fake: FakeNvml, reader: Reader) -> None:
    """A server may choose its GPU while it starts."""
    fake.say(gpu(0), gpu(1), devices=2)
    reader.read()
    reader.set("CUDA_VISIBLE_DEVICES", "1")
    gpus = reader.read().gpus()
    assert gpus[UUID_0] == {}
    assert gpus[UUID_1]["power_watts"] == 301.5
    assert reader.read().gpus().keys() == {UUID_1}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"error__nvmlInitWithFlags": 9}, "driver of the machine is not loaded"),
        ({"error__nvmlInitWithFlags": 18}, "different versions"),
        ({"error__nvmlInitWithFlags": 4}, "/dev/nvidiactl"),
        ({"error__nvmlInitWithFlags": 999}, "nvidia-smi"),
        ({"devices": 0}, "shows no GPU"),
    ],
)
def test_a_driver_that_does_not_work_says_what_would_help(
    fake: FakeNvml, reader: Reader, lines: dict[str, object], words: str
) -> None:
    """In one sentence that fits a name of the ring."""
    fake.say(**lines)
    answer = reader.read()
    assert words in (answer.unavailable or "")
    assert len(answer.unavailable or "") <= 224


def test_a_missing_library_says_how_to_get_it(tmp_path: Path) -> None:
    """Here and wherever else there is no driver."""
    blind = "import ctypes\n\ndef refuse(name, *more):\n    raise OSError(name)\n\n"
    hidden = f"{blind}ctypes.CDLL = refuse\n{PROGRAM}"
    with reading(tmp_path, hidden) as reader:
        answer = reader.read()
    assert "libnvidia-ml.so.1" in (answer.unavailable or "")


def test_a_missing_module_says_how_to_get_it(fake: FakeNvml, tmp_path: Path) -> None:
    """The driver alone is not enough."""
    fake.say(gpu(0), devices=1)
    without = f"import sys\nsys.modules['pynvml'] = None\n{PROGRAM}"
    with reading(tmp_path, without, **fake.environment) as reader:
        answer = reader.read()
    assert "pip install nvidia-ml-py" in (answer.unavailable or "")
