"""torch's caching allocator in this process, by GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pinchpoint.samplers.source import Intern, SourceNoData
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample, TorchMemorySample

NATIVE = "native"
"""The allocator whose figures are its own. Others would have to ask CUDA for them, which could
break a capture of the server's."""


PERIOD_NS = 10_000_000_000
"""torch takes its allocator's lock for this while it keeps the interpreter's: where another thread
is in `empty_cache`, or tries again after it ran out of memory, the server stands still meanwhile.
So it is asked seldom."""


class TorchMemorySampler:
    """What torch has taken of each GPU. Never imports torch, initialises CUDA or synchronises.

    Args:
        intern: gives names their ids.
        modules: where torch is once the server has imported it.
    """

    name = "torch_memory"

    def __init__(self, intern: Intern, modules: Mapping[str, Any] = sys.modules) -> None:
        self._intern = intern
        self._modules = modules
        self._device_names: dict[int, str] = {}
        self._due_ns = 0

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """One `TorchMemorySample` for each GPU.

        Raises:
            SourceNoData: it is not time yet, or the server has not used CUDA through torch.
        """
        if now_ns < self._due_ns:
            raise SourceNoData
        torch: Any = self._modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if cuda is None or not cuda.is_initialized() or _allocator(cuda) != NATIVE:
            raise SourceNoData
        self._due_ns = now_ns + PERIOD_NS
        # Not `cuda.device_count()`, which in some versions asks NVML.
        count = torch._C._cuda_getDeviceCount()
        return [self._of_device(now_ns, cuda, index) for index in range(count)]

    def _of_device(self, now_ns: int, cuda: Any, index: int) -> TorchMemorySample:
        stats = cuda.memory_stats(index)
        return TorchMemorySample(
            now_ns,
            self._intern(NameKind.DEVICE, self._device_name(cuda, index)),
            allocated_bytes=stats.get("allocated_bytes.all.current"),
            reserved_bytes=stats.get("reserved_bytes.all.current"),
            alloc_retries=stats.get("num_alloc_retries"),
            ooms=stats.get("num_ooms"),
        )

    def _device_name(self, cuda: Any, index: int) -> str:
        name = self._device_names.get(index)
        if name is None:
            name = self._device_names[index] = _uuid(cuda.get_device_properties(index), index)
        return name


def _uuid(properties: Any, index: int) -> str:
    """As NVML writes it: torch leaves the prefix out, and does not tell it before 2.4."""
    uuid = getattr(properties, "uuid", None)
    if uuid is None:
        return f"cuda:{index}"
    prefix = "MIG" if " MIG " in properties.name else "GPU"
    return f"{prefix}-{uuid}"


def _allocator(cuda: Any) -> str:
    backend: str = cuda.get_allocator_backend()
    return backend
