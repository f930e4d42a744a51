"""Generated pages are as the code says. `pytest --update-golden` rewrites them."""

from __future__ import annotations

import pytest

from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.reference import NOT_YET, reference
from tests.support.scripts import ROOT

METRICS = ROOT / "docs" / "reference" / "metrics.md"


def test_the_reference_of_metrics_is_as_the_code_says(pytestconfig: pytest.Config) -> None:
    """A family that is added, renamed or explained better shows in review."""
    if pytestconfig.getoption("--update-golden"):
        METRICS.parent.mkdir(exist_ok=True)
        METRICS.write_text(reference(), "utf-8")
    assert METRICS.read_text("utf-8") == reference()


def test_every_family_is_explained_in_one_sentence_or_two() -> None:
    """Help texts end like sentences; names are snake case and carry their unit last."""
    for family in FAMILIES:
        assert family.help.endswith("."), family.name
        assert family.name.islower(), family.name
        assert not family.name.endswith("_total"), family.name


DESIGNED = [
    "request_seconds",
    "request_queue_seconds",
    "request_stage_seconds",
    "request_first_message_seconds",
    "request_message_gap_seconds",
    "request_received_bytes",
    "request_sent_bytes",
    "requests_in_flight",
    "requests_queued",
    "requests_abandoned",
    "requests_rejected",
    "oldest_request_age_seconds",
    "workers",
    "workers_busy",
    "request_time_seconds",
    "forward_seconds",
    "forward_device_seconds",
    "batch_size",
    "layer_seconds",
    "layer_samples",
    "model_info",
    "model_parameters",
    "model_bytes",
    "model_flops",
    "gpu_utilization_ratio",
    "gpu_memory_used_bytes",
    "gpu_memory_total_bytes",
    "gpu_power_watts",
    "gpu_energy_joules",
    "gpu_temperature_celsius",
    "gpu_sm_clock_hertz",
    "gpu_clock_throttled_seconds",
    "gpu_xid_errors",
    "gpu_ecc_errors",
    "gpu_pcie_receive_bytes_per_second",
    "gpu_pcie_transmit_bytes_per_second",
    "gpu_sm_active_ratio",
    "gpu_tensor_active_ratio",
    "gpu_dram_active_ratio",
    "gpu_info",
    "torch_memory_allocated_bytes",
    "torch_memory_reserved_bytes",
    "torch_memory_alloc_retries",
    "torch_memory_ooms",
    "container_cpu_throttled_seconds",
    "container_cpu_periods",
    "container_cpu_throttled_periods",
    "container_cpu_limit_cores",
    "container_memory_working_set_bytes",
    "container_memory_limit_bytes",
    "container_oom_kills",
    "pressure_seconds",
    "runqueue_wait_seconds",
    "gil_wait_seconds",
    "gc_pause_seconds",
    "event_loop_lag_seconds",
    "bottleneck_state",
    "bottleneck_primary_info",
    "bottleneck_seconds",
    "bottleneck_transitions",
    "bottleneck_confidence_ratio",
    "bottleneck_share_ratio",
    "whatif_latency_reduction_ratio",
    "whatif_capacity_gain_ratio",
    "capacity_requests_per_second",
    "utilization_ratio",
    "headroom_ratio",
    "unattributed_ratio",
    "build_info",
    "config_last_reload_success_timestamp_seconds",
    "signal_available",
    "ring_records",
    "ring_lost_records",
    "probe_errors",
    "probe_cpu_seconds",
    "sampler_duration_seconds",
    "sampler_errors",
]
"""Every family of the design, without prefix and `_total`."""


def test_what_was_designed_is_there_or_says_why_not() -> None:
    """No family is forgotten in silence, and none is excused that is there."""
    names = {family.name for family in FAMILIES}
    excused = {name for name, _ in NOT_YET if "{" not in name}
    designed = {f"pinchpoint_{name}" for name in DESIGNED}
    assert designed - names == excused
