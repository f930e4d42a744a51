"""NVIDIA's management library (NVML) through nvidia-ml-py: loading it, and what its errors mean."""

from __future__ import annotations

import importlib
from enum import Enum
from typing import Any, TypeAlias

from pinchpoint.samplers.source import SourceUnavailable

Nvml: TypeAlias = Any
"""The module `pynvml`. It brings no types."""


class Failure(Enum):
    """What an error says of the next attempt."""

    NEVER = "the device or the driver cannot do this"
    NOT_NOW = "there is nothing to read at the moment"
    LOST = "the device does not answer any more"
    ERROR = "it failed this time"


# nvmlReturn_t of nvml.h.
_UNINITIALIZED, _NO_PERMISSION, _DRIVER_NOT_LOADED = 1, 4, 9
_LIBRARY_NOT_FOUND, _VERSION_MISMATCH = 12, 18
_FAILURES = {
    2: Failure.NEVER,  # invalid argument: the driver does not know what is asked for
    3: Failure.NEVER,  # not supported
    _NO_PERMISSION: Failure.NEVER,
    13: Failure.NEVER,  # function not found
    22: Failure.NEVER,  # no ECC on a vGPU
    25: Failure.NEVER,  # argument version mismatch
    26: Failure.NEVER,  # deprecated
    21: Failure.NOT_NOW,  # no data
    27: Failure.NOT_NOW,  # not ready
    _UNINITIALIZED: Failure.LOST,  # somebody in the process has shut the library down
    15: Failure.LOST,  # GPU is lost
    16: Failure.LOST,  # reset required
    28: Failure.LOST,  # GPU not found
}
TIMEOUT = 10

NO_MODULE = (
    "nvidia-ml-py is not installed beside the server: install it with "
    "`pip install nvidia-ml-py`, it is pure Python"
)
_REASONS = {
    _LIBRARY_NOT_FOUND: "the driver's libnvidia-ml.so.1 is not where the server runs: run it with "
    "NVIDIA's container runtime and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    _DRIVER_NOT_LOADED: "the NVIDIA driver of the machine is not loaded: see that `nvidia-smi` "
    "works on it",
    _VERSION_MISMATCH: "the NVIDIA driver and its library are of different versions: restart the "
    "machine or the container after the driver's update",
    _NO_PERMISSION: "the server may not open the NVIDIA driver: give its user access to "
    "/dev/nvidiactl",
}


class DeviceLost(Exception):
    """A device has gone."""


def load() -> Nvml:
    """The library, ready for use.

    Raises:
        SourceUnavailable: there is no module, no library or no driver.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceUnavailable(NO_MODULE) from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        reason = _REASONS.get(value_of(error)) or (
            f"the NVIDIA driver does not start ({error}): see that `nvidia-smi` works in the "
            "server's container"
        )
        raise SourceUnavailable(reason) from error
    return nvml


def value_of(error: BaseException) -> int:
    """The `nvmlReturn_t` of an error; -1 for any other exception."""
    value = getattr(error, "value", -1)
    return value if isinstance(value, int) else -1


def text(name: str | bytes) -> str:
    """A name as text: pynvml before 11.5 gives bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def failure_of(error: Exception) -> Failure:
    """What an exception of a call says. An older pynvml lacks functions, or some of their
    arguments: they are not supported."""
    if isinstance(error, AttributeError | TypeError):
        return Failure.NEVER
    return _FAILURES.get(value_of(error), Failure.ERROR)


def is_shut_down(error: Exception) -> bool:
    """Whether the library has to be initialised again."""
    return value_of(error) == _UNINITIALIZED
