"""GPUs as the driver accounts for them, and what torch has taken of them."""

from __future__ import annotations

from collections.abc import Iterable

from pinchpoint.expose.family import Family, Kind, Point
from pinchpoint.expose.reading import NS, named
from pinchpoint.snapshot import Snapshot

_UUID = ("gpu_uuid",)
_GPU, _XID, _TORCH = "GpuSample", "GpuXidSample", "TorchMemorySample"

_THROTTLED = {
    "power": "throttled_power_ns",
    "thermal": "throttled_thermal_ns",
    "hardware": "throttled_hardware_ns",
    "sync_boost": "throttled_sync_boost_ns",
    "board_limit": "throttled_board_limit_ns",
    "low_utilization": "throttled_low_utilization_ns",
    "reliability": "throttled_reliability_ns",
}
_ECC = {"corrected": "ecc_corrected", "uncorrected": "ecc_uncorrected"}
_PRECISIONS = {f"fp{bits}": f"fp{bits}_active_ratio" for bits in (64, 32, 16)}


def _info(snapshot: Snapshot) -> Iterable[Point]:
    for gpu in snapshot.gpu_facts:
        if gpu.product or gpu.driver:
            index = "" if gpu.index is None else str(gpu.index)
            yield (gpu.uuid, index, gpu.product, gpu.driver, gpu.parent), 1.0


def _xid_errors(snapshot: Snapshot) -> Iterable[Point]:
    """The instance is `UUID xid`; one that was folded into the rest has neither."""
    for (name,), errors in named(_XID, "errors", 1, counters=True)(snapshot):
        uuid, _, xid = name.rpartition(" ")
        yield (uuid or name, xid if uuid else name), errors


def _of(kind: Kind, name: str, text: str, field: str, source: str = _GPU) -> Family:
    """One field of each GPU."""
    points = named(source, field, 1, counters=kind == "counter")
    return Family(name, kind, text, _UUID, points)


def _split(
    kind: Kind, name: str, text: str, label: str, fields: dict[str, str], scale: float = 1
) -> Family:
    """Fields of each GPU that a label tells apart."""

    def points(snapshot: Snapshot) -> Iterable[Point]:
        for value, field in fields.items():
            for (uuid,), number in named(_GPU, field, scale, counters=kind == "counter")(snapshot):
                yield (uuid, value), number

    return Family(name, kind, text, (*_UUID, label), points)


GPU: tuple[Family, ...] = (
    Family(
        "pinchpoint_gpu_info",
        "gauge",
        "GPUs and MIG instances that the server may use; `parent` is the GPU of an instance.",
        (*_UUID, "index", "name", "driver", "parent"),
        _info,
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_utilization_ratio",
        "Share of the driver's last sample period (at most 1 s) in which any kernel ran.",
        "utilization_ratio",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_memory_utilization_ratio",
        "Share of the driver's last sample period in which the memory was read or written.",
        "memory_utilization_ratio",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_memory_used_bytes",
        "Memory of the GPU in use by all processes, those of neighbours included.",
        "memory_used_bytes",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_memory_total_bytes",
        "Memory of the GPU.",
        "memory_total_bytes",
    ),
    _of("gauge", "pinchpoint_gpu_power_watts", "Power that the GPU draws.", "power_watts"),
    _of(
        "gauge",
        "pinchpoint_gpu_power_limit_watts",
        "Power limit that the GPU keeps to.",
        "power_limit_watts",
    ),
    _of(
        "counter",
        "pinchpoint_gpu_energy_joules",
        "Energy that the GPU has used.",
        "energy_joules",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_temperature_celsius",
        "Temperature of the GPU.",
        "temperature_celsius",
    ),
    _of("gauge", "pinchpoint_gpu_sm_clock_hertz", "Clock of the GPU's SMs.", "sm_clock_hertz"),
    _of(
        "gauge",
        "pinchpoint_gpu_sm_clock_max_hertz",
        "Highest clock of the GPU's SMs.",
        "sm_clock_max_hertz",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_memory_clock_hertz",
        "Clock of the GPU's memory.",
        "memory_clock_hertz",
    ),
    _split(
        "counter",
        "pinchpoint_gpu_clock_throttled_seconds",
        "Time that the GPU's clocks were held down. Reasons may hold at the same time.",
        "reason",
        _THROTTLED,
        NS,
    ),
    Family(
        "pinchpoint_gpu_xid_errors",
        "counter",
        "XID errors that the driver has reported of the GPU.",
        (*_UUID, "xid"),
        _xid_errors,
    ),
    _split(
        "counter",
        "pinchpoint_gpu_ecc_errors",
        "ECC errors of the GPU's memories.",
        "kind",
        _ECC,
    ),
    _of(
        "counter",
        "pinchpoint_gpu_pcie_replays",
        "Packets that the GPU had to send again over PCIe.",
        "pcie_replays",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_pcie_receive_bytes_per_second",
        "PCIe traffic to the GPU.",
        "pcie_receive_bytes_per_second",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_pcie_transmit_bytes_per_second",
        "PCIe traffic from the GPU.",
        "pcie_transmit_bytes_per_second",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_processes",
        "Processes that compute on the GPU, where the container is shown them.",
        "processes",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_sm_active_ratio",
        "Share of the GPU's SMs that were busy in the last second (Hopper and later).",
        "sm_active_ratio",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_sm_occupancy_ratio",
        "Warps that were active in the last second of those that there is room for.",
        "sm_occupancy_ratio",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_tensor_active_ratio",
        "Share of the last second in which the GPU's tensor cores worked.",
        "tensor_active_ratio",
    ),
    _of(
        "gauge",
        "pinchpoint_gpu_dram_active_ratio",
        "Memory bandwidth used in the last second of what the GPU has.",
        "dram_active_ratio",
    ),
    _split(
        "gauge",
        "pinchpoint_gpu_fp_active_ratio",
        "Share of the last second in which the GPU computed without tensor cores.",
        "precision",
        _PRECISIONS,
    ),
    _of(
        "gauge",
        "pinchpoint_torch_memory_allocated_bytes",
        "Memory of the GPU that tensors of the serving processes occupy.",
        "allocated_bytes",
        _TORCH,
    ),
    _of(
        "gauge",
        "pinchpoint_torch_memory_reserved_bytes",
        "Memory of the GPU that torch keeps for tensors of the serving processes.",
        "reserved_bytes",
        _TORCH,
    ),
    _of(
        "counter",
        "pinchpoint_torch_memory_alloc_retries",
        "Allocations that made torch give its cached memory back first: the GPU is nearly full.",
        "alloc_retries",
        _TORCH,
    ),
    _of(
        "counter",
        "pinchpoint_torch_memory_ooms",
        "Allocations that torch refused for want of memory.",
        "ooms",
        _TORCH,
    ),
)
