"""The GPUs and MIG instances that this process may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pinchpoint.samplers.nvml_library import Failure, Nvml, failure_of, text

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
PCI_ORDER = "PCI_BUS_ID"

MIG_ENABLED = 1
"""NVML_DEVICE_MIG_ENABLE."""


@dataclass(frozen=True)
class Device:
    """A GPU or a MIG instance.

    Attributes:
        uuid: `GPU-…` or `MIG-…`.
        handle: NVML's.
        index: of the GPU in this container, or of the instance in its GPU.
        product: its name; "" if it is not told.
        parent: the GPU that an instance is part of.
        gpu_instance: id of the GPU instance, for MIG.
    """

    uuid: str
    handle: Any
    index: int
    product: str
    parent: Device | None = None
    gpu_instance: int | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU and its MIG instances."""

    device: Device
    instances: tuple[Device, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        """The GPU, then its instances."""
        return (self.device, *self.instances)


def gpus_of(nvml: Nvml) -> list[Gpu | None]:
    """Every GPU of the container by its index; None for one that does not answer.

    Raises:
        NVMLError: they cannot even be counted.
    """
    return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]


def usable(gpus: Sequence[Gpu | None], environment: Mapping[str, str]) -> list[Device]:
    """The devices that CUDA shows to this process; without CUDA_VISIBLE_DEVICES all of them.

    CUDA's own order puts faster products first and NVML's does not: where it matters and cannot be
    known, all are taken.
    """
    everything = [device for gpu in gpus if gpu is not None for device in gpu.devices]
    wanted = environment.get(VISIBLE)
    if wanted is None:
        return everything
    entries = [entry.strip() for entry in wanted.split(",")]
    products = {gpu.device.product for gpu in gpus if gpu is not None}
    by_index = any(entry.isdigit() for entry in entries)
    if by_index and environment.get(ORDER) != PCI_ORDER and len(products) > 1:
        return everything
    chosen: dict[str, Device] = {}
    for entry in entries:
        found = _entry(entry, gpus)
        if found is None:
            break  # CUDA hides whatever comes behind an entry that names nothing.
        chosen.update((device.uuid, device) for device in found)
    return list(chosen.values())


def _entry(entry: str, gpus: Sequence[Gpu | None]) -> Sequence[Device] | None:
    """What an entry names: a device by its index, or by as much of its UUID as no other has. None:
    nothing."""
    if entry.isdigit():
        index = int(entry)
        if index >= len(gpus):
            return None
        gpu = gpus[index]
        return () if gpu is None else gpu.devices
    named = [devices for gpu in gpus if gpu is not None for devices in _named(entry, gpu)]
    return named[0] if len(named) == 1 else None


def _named(entry: str, gpu: Gpu) -> list[tuple[Device, ...]]:
    """What the beginning of a UUID, or the old name of a MIG instance, may mean of a GPU."""
    if entry.startswith("GPU-"):
        return [gpu.devices] if gpu.device.uuid.startswith(entry) else []
    return [
        (gpu.device, instance)
        for instance in gpu.instances
        if (entry.startswith("MIG-") and instance.uuid.startswith(entry))
        or entry.startswith(f"MIG-{gpu.device.uuid}/{instance.gpu_instance}/")
    ]


def _gpu(nvml: Nvml, index: int) -> Gpu | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        device = Device(text(nvml.nvmlDeviceGetUUID(handle)), handle, index, _product(nvml, handle))
        return Gpu(device, tuple(_instances(nvml, device)))
    except nvml.NVMLError:
        return None


def _instances(nvml: Nvml, gpu: Device) -> list[Device]:
    mode = _or_none(lambda: nvml.nvmlDeviceGetMigMode(gpu.handle)[0])
    if mode != MIG_ENABLED:
        return []
    found = []
    for index in range(_or_none(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(gpu.handle)) or 0):
        instance = _or_none(partial(_instance, nvml, gpu, index))
        if instance is not None:
            found.append(instance)
    return found


def _instance(nvml: Nvml, gpu: Device, index: int) -> Device:
    handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, index)
    return Device(
        text(nvml.nvmlDeviceGetUUID(handle)),
        handle,
        index,
        _product(nvml, handle),
        gpu,
        nvml.nvmlDeviceGetGpuInstanceId(handle),
    )


def _product(nvml: Nvml, handle: Any) -> str:
    return text(_or_none(lambda: nvml.nvmlDeviceGetName(handle)) or "")


def _or_none(ask: Callable[[], Any]) -> Any:
    """An answer, or None where the device has none (an empty MIG slot, a GPU without MIG)."""
    try:
        return ask()
    except Exception as error:
        if failure_of(error) is Failure.LOST:
            raise
        return None
