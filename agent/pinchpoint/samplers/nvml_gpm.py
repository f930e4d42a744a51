"""Activity of a GPU between two moments (GPM): Hopper and later, also for MIG instances."""

from __future__ import annotations

import math
from typing import Any

from pinchpoint.samplers.nvml_devices import Device
from pinchpoint.samplers.nvml_library import Failure, Nvml, failure_of

MIB = 1 << 20

_PERCENT = 0.01
GRAPHICS = "graphics_ratio"
METRICS: dict[int, tuple[str, float]] = {
    1: (GRAPHICS, _PERCENT),
    2: ("sm_active_ratio", _PERCENT),
    3: ("sm_occupancy_ratio", _PERCENT),
    5: ("tensor_active_ratio", _PERCENT),
    10: ("dram_active_ratio", _PERCENT),
    11: ("fp64_active_ratio", _PERCENT),
    12: ("fp32_active_ratio", _PERCENT),
    13: ("fp16_active_ratio", _PERCENT),
    20: ("pcie_transmit_bytes_per_second", MIB),
    21: ("pcie_receive_bytes_per_second", MIB),
}
"""By NVML's metric id (nvmlGpmMetricId_t): what it is here, and its unit. `graphics_ratio` is the
share of time that anything ran, as NVML's own utilization is."""


class GpmActivity:
    """The difference between two samples of the device's counters, taken in turns.

    Args:
        nvml: the library.
        device: one that supports GPM.

    Raises:
        NVMLError: no room for the samples.
    """

    def __init__(self, nvml: Nvml, device: Device) -> None:
        self._nvml = nvml
        self._device = device
        self._current = nvml.nvmlGpmSampleAlloc()
        self._last = nvml.nvmlGpmSampleAlloc()
        self._has_last = False
        self._request = nvml.c_nvmlGpmMetricsGet_t()
        self._request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        self._request.numMetrics = len(METRICS)
        for place, metric_id in enumerate(METRICS):
            self._request.metrics[place].metricId = metric_id

    def read(self) -> dict[str, float]:
        """Activity since the last call; nothing the first time."""
        self._take(self._current)
        values = self._difference() if self._has_last else {}
        self._current, self._last = self._last, self._current
        self._has_last = True
        return values

    def close(self) -> None:
        """Free both samples."""
        for sample in (self._current, self._last):
            self._nvml.nvmlGpmSampleFree(sample)

    def _take(self, sample: Any) -> None:
        gpu, instance = self._device.parent, self._device.gpu_instance
        if gpu is None:
            self._nvml.nvmlGpmSampleGet(self._device.handle, sample)
        else:
            self._nvml.nvmlGpmMigSampleGet(gpu.handle, instance, sample)

    def _difference(self) -> dict[str, float]:
        self._request.sample1 = self._last
        self._request.sample2 = self._current
        self._nvml.nvmlGpmMetricsGet(self._request)
        values = {}
        for place, (field, scale) in enumerate(METRICS.values()):
            metric = self._request.metrics[place]
            if metric.nvmlReturn == 0 and math.isfinite(metric.value):
                values[field] = metric.value * scale
        return values


def activity_of(nvml: Nvml, device: Device) -> GpmActivity | None:
    """The activity of a device; None where it does not support GPM.

    Raises:
        NVMLError: the device is lost.
    """
    gpu = device.parent or device
    try:
        supported = nvml.nvmlGpmQueryDeviceSupport(gpu.handle).isSupportedDevice
        return GpmActivity(nvml, device) if supported else None
    except Exception as error:
        if failure_of(error) is Failure.LOST:
            raise
        return None
