"""What is read of one GPU or MIG instance, each reading on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from pinchpoint.samplers.nvml_devices import Device
from pinchpoint.samplers.nvml_gpm import GRAPHICS, activity_of
from pinchpoint.samplers.nvml_library import DeviceLost, Failure, Nvml, failure_of
from pinchpoint.samplers.nvml_throttling import ThrottledTimes

T = TypeVar("T")

Way = Callable[[Nvml, Any], Sequence[float]]
"""Asks the library about a handle; the values of a reading's fields."""

_PERCENT = 0.01
_MHZ = 1e6
_MILLI = 1e-3
_KB = 1_000

# Constants of nvml.h.
_SM, _MEMORY = 1, 2
_CORRECTED, _UNCORRECTED = 0, 1
_AGGREGATE = 1
_TRANSMIT, _RECEIVE = 0, 1
_GPU_SENSOR = 0
_MEMORY_V2 = 0x02000028
_VALUE_NAMES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Reading(NamedTuple):
    """Fields that one call gives, and the ways to ask for them, the best first."""

    fields: tuple[str, ...]
    ways: tuple[Way, ...]


def _utilization(nvml: Nvml, handle: Any) -> Sequence[float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu * _PERCENT, rates.memory * _PERCENT


def _memory_v2(nvml: Nvml, handle: Any) -> Sequence[float]:
    """Without what the driver reserves for itself, as nvidia-smi shows it."""
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, _MEMORY_V2)
    return memory.used, memory.total


def _memory(nvml: Nvml, handle: Any) -> Sequence[float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.used, memory.total


def _pcie(nvml: Nvml, handle: Any) -> Sequence[float]:
    """Measured over 20 ms each, during which the call blocks."""
    return (
        nvml.nvmlDeviceGetPcieThroughput(handle, _TRANSMIT) * _KB,
        nvml.nvmlDeviceGetPcieThroughput(handle, _RECEIVE) * _KB,
    )


def _processes(nvml: Nvml, handle: Any) -> Sequence[float]:
    """An empty list is what a container is shown too that hides its processes: it says nothing."""
    found = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return (found,) if found else ()


def _violation(policy: int) -> Way:
    def read(nvml: Nvml, handle: Any) -> Sequence[float]:
        return (nvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime,)

    return read


def _field(field_id: int) -> Way:
    def read(nvml: Nvml, handle: Any) -> Sequence[float]:
        (answer,) = nvml.nvmlDeviceGetFieldValues(handle, [field_id])
        if answer.nvmlReturn:
            raise nvml.NVMLError(answer.nvmlReturn)
        return (getattr(answer.value, _VALUE_NAMES[answer.valueType]),)

    return read


def _call(function: str, *arguments: int, scale: float = 1) -> Way:
    def read(nvml: Nvml, handle: Any) -> Sequence[float]:
        return (getattr(nvml, function)(handle, *arguments) * scale,)

    return read


def _one(field: str, *ways: Way) -> Reading:
    return Reading((field,), ways)


READINGS: tuple[Reading, ...] = (
    Reading(("utilization_ratio", "memory_utilization_ratio"), (_utilization,)),
    Reading(("memory_used_bytes", "memory_total_bytes"), (_memory_v2, _memory)),
    _one("power_watts", _call("nvmlDeviceGetPowerUsage", scale=_MILLI)),
    _one("power_limit_watts", _call("nvmlDeviceGetEnforcedPowerLimit", scale=_MILLI)),
    _one("energy_joules", _call("nvmlDeviceGetTotalEnergyConsumption", scale=_MILLI)),
    _one(
        "temperature_celsius",
        _call("nvmlDeviceGetTemperatureV", _GPU_SENSOR),
        _call("nvmlDeviceGetTemperature", _GPU_SENSOR),
    ),
    _one("sm_clock_hertz", _call("nvmlDeviceGetClockInfo", _SM, scale=_MHZ)),
    _one("sm_clock_max_hertz", _call("nvmlDeviceGetMaxClockInfo", _SM, scale=_MHZ)),
    _one("memory_clock_hertz", _call("nvmlDeviceGetClockInfo", _MEMORY, scale=_MHZ)),
    _one("throttled_power_ns", _violation(0), _field(74)),
    _one("throttled_thermal_ns", _violation(1), _field(75)),
    _one("throttled_sync_boost_ns", _violation(2), _field(76)),
    _one("throttled_board_limit_ns", _violation(3), _field(77)),
    _one("throttled_low_utilization_ns", _violation(4), _field(78)),
    _one("throttled_reliability_ns", _violation(5), _field(79)),
    Reading(("pcie_transmit_bytes_per_second", "pcie_receive_bytes_per_second"), (_pcie,)),
    _one("pcie_replays", _call("nvmlDeviceGetPcieReplayCounter")),
    _one("ecc_corrected", _call("nvmlDeviceGetTotalEccErrors", _CORRECTED, _AGGREGATE)),
    _one("ecc_uncorrected", _call("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _AGGREGATE)),
    _one("processes", _processes),
)
"""nvmlPerfPolicyType_t counts in nanoseconds; NVML_FI_DEV_PERF_POLICY_… are the same counters,
which outlive the function (deprecated). Ids of newer fields differ between driver versions and are
not used. ECC counts are the aggregate ones: the volatile ones begin anew with the driver."""

_REASONS = _one(
    "reasons",
    _call("nvmlDeviceGetCurrentClocksEventReasons"),
    _call("nvmlDeviceGetCurrentClocksThrottleReasons"),
)
_SUPPORTED_REASONS = _one(
    "supported",
    _call("nvmlDeviceGetSupportedClocksEventReasons"),
    _call("nvmlDeviceGetSupportedClocksThrottleReasons"),
)


class DeviceReader:
    """Reads one device. What it does not support is asked once and never again.

    Args:
        nvml: the library.
        device: to read.

    Attributes:
        device: the same.
        errors: calls that failed and may work again.

    Raises:
        DeviceLost: it is gone already.
    """

    def __init__(self, nvml: Nvml, device: Device) -> None:
        self.device = device
        self.errors = 0
        self._nvml = nvml
        self._ways = [(reading.fields, list(reading.ways)) for reading in READINGS]
        self._reasons = list(_REASONS.ways)
        supported = self._ask(list(_SUPPORTED_REASONS.ways))
        self._throttled = ThrottledTimes(int(supported[0]) if supported else 0)
        try:
            self._activity = activity = activity_of(nvml, device)
        except nvml.NVMLError as error:
            raise DeviceLost from error
        self._activity_ways = [] if activity is None else [lambda *_: activity.read()]

    def read(self, now_ns: int) -> dict[str, float]:
        """Every field that the device can say now.

        Raises:
            DeviceLost: it does not answer any more.
        """
        values = self._first(self._activity_ways) or {}
        graphics = values.pop(GRAPHICS, None)
        asked: set[str] = set()
        for fields, ways in self._ways:
            if fields[0] not in values:
                values.update(zip(fields, self._ask(ways), strict=False))
            if ways:
                asked.update(fields)
        for field, time_ns in self._read_reasons(now_ns).items():
            if field not in asked:
                values[field] = time_ns
        if graphics is not None:
            values.setdefault("utilization_ratio", graphics)
        return values

    def close(self) -> None:
        """Free what the driver keeps for it. Never raises."""
        if self._activity is not None:
            try:
                self._activity.close()
            except Exception:
                self.errors += 1

    def _read_reasons(self, now_ns: int) -> dict[str, int]:
        reasons = self._ask(self._reasons)
        return self._throttled.add(now_ns, int(reasons[0])) if reasons else {}

    def _ask(self, ways: list[Way]) -> Sequence[float]:
        return self._first(ways) or ()

    def _first(self, ways: list[Callable[[Nvml, Any], T]]) -> T | None:
        """The answer of the first way that is left, None without one. Those that are not
        supported are taken out."""
        while ways:
            try:
                return ways[0](self._nvml, self.device.handle)
            except Exception as error:
                failure = failure_of(error)
                if failure is Failure.LOST:
                    raise DeviceLost from error
                if failure is not Failure.NEVER:
                    self.errors += failure is Failure.ERROR
                    return None
                del ways[0]
        return None
