"""XID errors: what the driver reports of a GPU, by its number."""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import Any

from pinchpoint.samplers.nvml_devices import Device
from pinchpoint.samplers.nvml_library import TIMEOUT, Failure, Nvml, failure_of, value_of

XID_EVENT = 0x8
"""nvmlEventTypeXidCriticalError."""

EVENTS_MAX = 64
"""In one reading: a GPU that reports on and on must not hold up the others."""


class XidEvents:
    """Counts the XID errors of GPUs since they were first watched.

    Args:
        nvml: the library.
    """

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._set: Any = None
        self._uuids: dict[int | None, str] = {}

    def watch(self, gpu: Device) -> None:
        """Count those of a GPU, too; of none that does not tell. Idempotent. Never raises."""
        address = _address(gpu.handle)
        if address in self._uuids:
            return
        try:
            if self._set is None:
                self._set = self._nvml.nvmlEventSetCreate()
            self._nvml.nvmlDeviceRegisterEvents(gpu.handle, XID_EVENT, self._set)
        except Exception as error:
            if failure_of(error) is not Failure.NEVER:
                return
        self._uuids[address] = gpu.uuid

    def read(self) -> Counter[tuple[str, int]]:
        """Those that have come since the last call, by GPU and number.

        Raises:
            NVMLError: they cannot be read.
        """
        found: Counter[tuple[str, int]] = Counter()
        for _ in range(EVENTS_MAX if self._set is not None else 0):
            try:
                event = self._nvml.nvmlEventSetWait(self._set, 0)
            except self._nvml.NVMLError as error:
                # What was found counts; an error that stays is met again at the next call.
                if value_of(error) == TIMEOUT or found:
                    break
                raise
            uuid = self._uuids.get(_address(event.device))
            if uuid is not None:
                found[uuid, int(event.eventData)] += 1
        return found

    def close(self) -> None:
        """Give the events up."""
        if self._set is not None:
            self._nvml.nvmlEventSetFree(self._set)
            self._set = None


def _address(handle: Any) -> int | None:
    """What tells handles apart; a handle of a lost GPU has no UUID any more."""
    return ctypes.cast(handle, ctypes.c_void_p).value
