from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import pytest

from pinchpoint.detect.verdict import Verdict
from pinchpoint.expose.gpu_families import GPU
from pinchpoint.schema.samples import GpuSample, GpuXidSample, Sample, TorchMemorySample
from pinchpoint.snapshot import AgentFacts, GpuFacts, ReadingKey, Snapshot

UUID = "GPU-0"
OTHER = "GPU-1"

COUNTED = {
    "energy_joules",
    "pcie_replays",
    "ecc_corrected",
    "ecc_uncorrected",
    "errors",
    "alloc_retries",
    "ooms",
}
FACTS = {"index", "product_id", "driver_id", "parent_id"}

Series = Mapping[str, Mapping[tuple[str, ...], object]]


def is_counter(field: str) -> bool:
    return field in COUNTED or field.startswith("throttled_")


def series(
    values: Mapping[ReadingKey, float] | None = None, facts: tuple[GpuFacts, ...] = ()
) -> Series:
    read = values or {}
    snapshot = Snapshot(
        Verdict(0, 0),
        AgentFacts(),
        counters={key: value for key, value in read.items() if is_counter(key[2])},
        gauges={key: value for key, value in read.items() if not is_counter(key[2])},
        gpu_facts=facts,
    )
    return {family.name: dict(family.points(snapshot)) for family in GPU}


def present(found: Series) -> Series:
    return {name: points for name, points in found.items() if points}


def test_without_a_gpu_there_is_no_series() -> None:
    """Not one at zero."""
    assert present(series()) == {}


def test_a_gpu_is_known_by_its_uuid() -> None:
    """And its name by what the driver calls it."""
    gpu = GpuFacts(UUID, 0, "Fake H100", "570.1", "")
    part = GpuFacts("MIG-0", None, "Fake H100 MIG 1g.10gb", "570.1", UUID)
    assert series(facts=(gpu, part))["pinchpoint_gpu_info"] == {
        (UUID, "0", "Fake H100", "570.1", ""): 1.0,
        ("MIG-0", "", "Fake H100 MIG 1g.10gb", "570.1", UUID): 1.0,
    }


def test_a_gpu_of_which_nothing_is_known_any_more_has_no_info() -> None:
    """It is lost."""
    assert present(series(facts=(GpuFacts(UUID, None, "", "", ""),))) == {}


def test_gpus_are_told_apart() -> None:
    """By the one label that all their series have."""
    found = series(
        {("GpuSample", UUID, "power_watts"): 300.0, ("GpuSample", OTHER, "power_watts"): 90.0}
    )
    assert present(found) == {"pinchpoint_gpu_power_watts": {(UUID,): 300.0, (OTHER,): 90.0}}
    assert all(family.labels[0] == "gpu_uuid" for family in GPU)


def test_throttled_time_is_in_seconds_by_reason() -> None:
    """Only of the reasons that the driver tells."""
    found = series(
        {
            ("GpuSample", UUID, "throttled_power_ns"): 1.5e9,
            ("GpuSample", UUID, "throttled_thermal_ns"): 0.0,
        }
    )
    assert present(found) == {
        "pinchpoint_gpu_clock_throttled_seconds": {(UUID, "power"): 1.5, (UUID, "thermal"): 0.0}
    }


def test_xid_errors_are_told_apart_by_their_number() -> None:
    """Those beyond the cap are one series."""
    found = series(
        {
            ("GpuXidSample", f"{UUID} 79", "errors"): 2.0,
            ("GpuXidSample", f"{UUID} 31", "errors"): 1.0,
            ("GpuXidSample", "_OTHER", "errors"): 5.0,
        }
    )
    assert present(found) == {
        "pinchpoint_gpu_xid_errors": {
            (UUID, "79"): 2.0,
            (UUID, "31"): 1.0,
            ("_OTHER", "_OTHER"): 5.0,
        }
    }


def test_ecc_errors_are_told_apart_by_their_kind() -> None:
    """Corrected ones are harmless."""
    found = series(
        {("GpuSample", UUID, "ecc_corrected"): 4.0, ("GpuSample", UUID, "ecc_uncorrected"): 1.0}
    )
    assert present(found) == {
        "pinchpoint_gpu_ecc_errors": {(UUID, "corrected"): 4.0, (UUID, "uncorrected"): 1.0}
    }


def test_torch_and_the_driver_speak_of_the_same_gpu() -> None:
    """So that what is the server's own can be set against the whole."""
    found = series(
        {
            ("GpuSample", UUID, "memory_used_bytes"): 8e9,
            ("TorchMemorySample", UUID, "reserved_bytes"): 5e9,
        }
    )
    assert present(found) == {
        "pinchpoint_gpu_memory_used_bytes": {(UUID,): 8e9},
        "pinchpoint_torch_memory_reserved_bytes": {(UUID,): 5e9},
    }


@pytest.mark.parametrize("sample_type", [GpuSample, GpuXidSample, TorchMemorySample])
def test_every_reading_has_a_series(sample_type: type[Sample]) -> None:
    """A field that nobody exposes is not read for anything."""
    common = {field.name for field in fields(Sample)} | FACTS
    for field in fields(sample_type):
        if field.name not in common:
            key = (sample_type.__name__, f"{UUID} 79", field.name)
            assert len(present(series({key: 0.25}))) == 1, field.name


def test_ratios_are_ratios() -> None:
    """Their names say so, and their values are left as they are."""
    ratios = [field.name for field in fields(GpuSample) if field.name.endswith("_ratio")]
    for name in ratios:
        ((family, points),) = present(series({("GpuSample", UUID, name): 0.25})).items()
        assert family.endswith("_ratio")
        assert list(points.values()) == [0.25]
