"""GPUs and MIG instances as NVIDIA's driver accounts for them.

Every call may take long or for ever: this sampler belongs in a thread of its own
(`probe/gpu_sampling.py`). A device that is lost is taken in again once it answers; until then
its sample is empty, so that no reading of it stays.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pinchpoint.samplers import nvml_library
from pinchpoint.samplers.nvml_devices import ORDER, VISIBLE, Device, gpus_of, usable
from pinchpoint.samplers.nvml_library import DeviceLost, Nvml, is_shut_down
from pinchpoint.samplers.nvml_readings import DeviceReader
from pinchpoint.samplers.nvml_xid import XidEvents
from pinchpoint.samplers.source import Intern, SourceUnavailable
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import GpuSample, GpuXidSample, Sample

SCAN_PERIOD_NS = 10_000_000_000
"""How often it is looked which devices there are."""

NO_DEVICES = (
    "the NVIDIA driver shows no GPU to the server: request one for its container, or look at "
    "CUDA_VISIBLE_DEVICES"
)


class NvmlSampler:
    """Every GPU and MIG instance that this process may use, and the XID errors of the GPUs.

    Args:
        intern: gives names their ids.
        load: makes the library ready.
        environment: where CUDA_VISIBLE_DEVICES is.
    """

    name = "nvml"

    def __init__(
        self,
        intern: Intern,
        load: Callable[[], Nvml] = nvml_library.load,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._intern = intern
        self._load = load
        self._environment = environment
        self._nvml: Nvml = None
        self._driver = ""
        self._xids: XidEvents | None = None
        self._xid_counts: Counter[tuple[str, int]] = Counter()
        self._devices: dict[str, Device] = {}
        self._gone: list[Device] = []
        self._readers: dict[str, DeviceReader] = {}
        self._scanned_ns: int | None = None
        self._scanned_for: tuple[str | None, ...] = ()
        self._errors = 0

    @property
    def errors(self) -> int:
        """Failures so far that left the other readings unharmed."""
        return self._errors + sum(reader.errors for reader in self._readers.values())

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """A `GpuSample` of each device, empty for those that are lost and, once, for those that are
        not shown any more, and a `GpuXidSample` of
        each XID that has come.

        Raises:
            SourceUnavailable: no module, library, driver or device.
        """
        if self._nvml is None:
            self._start()
        self._scan_if_due(now_ns)
        samples: list[Sample] = [
            self._sample(now_ns, device) for device in list(self._devices.values())
        ]
        samples.extend(GpuSample(now_ns, self._device_id(device)) for device in self._gone)
        self._gone.clear()
        samples.extend(self._xid_samples(now_ns))
        return samples

    def close(self) -> None:
        """Give back what the driver keeps for us."""
        for uuid in list(self._readers):
            self._drop(uuid)
        if self._nvml is not None:
            if self._xids is not None:
                self._xids.close()
            self._nvml.nvmlShutdown()
            self._nvml = None

    def _start(self) -> None:
        nvml = self._load()
        try:
            self._driver = nvml_library.text(nvml.nvmlSystemGetDriverVersion())
        except nvml.NVMLError:
            self._errors += 1
        self._xids = XidEvents(nvml)
        self._nvml = nvml

    def _scan_if_due(self, now_ns: int) -> None:
        shown_to_cuda = (self._environment.get(VISIBLE), self._environment.get(ORDER))
        first = self._scanned_ns is None
        if (
            self._scanned_ns is not None
            and now_ns - self._scanned_ns < SCAN_PERIOD_NS
            and shown_to_cuda == self._scanned_for
        ):
            return
        try:
            gpus = gpus_of(self._nvml)
            found = usable(gpus, self._environment)
        except self._nvml.NVMLError as error:
            if first:
                raise
            self._errors += 1
            if is_shut_down(error):
                self._start()
            return
        if first and not found:
            raise SourceUnavailable(NO_DEVICES)
        self._scanned_ns, self._scanned_for = now_ns, shown_to_cuda
        self._take_in({device.uuid: device for device in found})
        if None not in gpus:
            self._let_go(found)

    def _let_go(self, found: Sequence[Device]) -> None:
        """Of what is not ours any more, once every GPU has answered: none of it is lost."""
        gone = self._devices.keys() - {device.uuid for device in found}
        self._gone.extend(self._devices.pop(uuid) for uuid in gone)

    def _take_in(self, found: Mapping[str, Device]) -> None:
        for uuid in self._readers.keys() - found.keys():
            self._drop(uuid)
        self._devices.update(found)
        for uuid, device in found.items():
            if uuid not in self._readers:
                try:
                    self._readers[uuid] = DeviceReader(self._nvml, device)
                except DeviceLost:
                    self._errors += 1
            if device.parent is None and self._xids is not None:
                self._xids.watch(device)

    def _sample(self, now_ns: int, device: Device) -> GpuSample:
        instance = self._device_id(device)
        reader = self._readers.get(device.uuid)
        try:
            values = reader.read(now_ns) if reader is not None else None
        except DeviceLost:
            self._drop(device.uuid)
            self._errors += 1
            values = None
        if values is None:
            return GpuSample(now_ns, instance)
        return GpuSample(
            now_ns,
            instance,
            index=device.index,
            product_id=self._name(device.product),
            driver_id=self._name(self._driver),
            parent_id=None if device.parent is None else self._device_id(device.parent),
            **values,
        )

    def _device_id(self, device: Device) -> int:
        return self._intern(NameKind.DEVICE, device.uuid)

    def _name(self, text: str) -> int | None:
        return self._intern(NameKind.OTHER, text) if text else None

    def _drop(self, uuid: str) -> None:
        reader = self._readers.pop(uuid)
        reader.close()
        self._errors += reader.errors

    def _xid_samples(self, now_ns: int) -> list[Sample]:
        try:
            came = self._xids.read() if self._xids is not None else Counter()
        except self._nvml.NVMLError:
            self._errors += 1
            came = Counter()
        samples: list[Sample] = []
        for uuid, xid in came:
            instance = self._intern(NameKind.DEVICE, f"{uuid} {xid}")
            if (uuid, xid) not in self._xid_counts:
                # Readers count from the first reading on: without a zero the first were lost.
                samples.append(GpuXidSample(now_ns, instance, errors=0))
            self._xid_counts[uuid, xid] += came[uuid, xid]
        samples.extend(
            GpuXidSample(now_ns, self._intern(NameKind.DEVICE, f"{uuid} {xid}"), errors=count)
            for (uuid, xid), count in self._xid_counts.items()
        )
        return samples
