from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from pinchpoint.samplers.nvml_devices import Device
from pinchpoint.samplers.nvml_xid import XidEvents

TIMEOUT = 10
GPU_IS_LOST = 15


class NVMLError(Exception):
    """As pynvml's: `value` is NVML's own number."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class Driver:
    """The calls for events, and what the next waits bring: an XID or an error."""

    NVMLError = NVMLError

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.next: list[int | NVMLError] = []

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlDeviceRegisterEvents(self, _handle: Any, _events: int, _set: object) -> None:
        pass

    def nvmlEventSetWait(self, _set: object, _timeout_ms: int) -> Any:
        event = self.next.pop(0) if self.next else NVMLError(TIMEOUT)
        if isinstance(event, NVMLError):
            raise event
        return SimpleNamespace(device=self.handle, eventData=event)


def test_what_came_before_an_error_is_kept() -> None:
    """A GPU that is lost says why first; the error shows at the next call, if it stays."""
    handle = ctypes.c_void_p(64)
    driver = Driver(handle)
    events = XidEvents(driver)
    events.watch(Device("GPU-a", handle, 0, "H200"))
    driver.next = [79, NVMLError(GPU_IS_LOST), NVMLError(GPU_IS_LOST)]
    assert events.read() == {("GPU-a", 79): 1}
    with pytest.raises(NVMLError):
        events.read()
    assert events.read() == {}
