"""What torch's settings and the served models say of themselves, read by the sampler thread.

Findings are what costs a serving process for nothing: each is 1 or 0 where it can be judged by
what the looks at forwards have seen, and None where it cannot.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pinchpoint.probe.torch_cuda import DeviceTimes
from pinchpoint.probe.torch_looks import WatchedModel
from pinchpoint.samplers.source import Intern
from pinchpoint.schema.events import FORWARD_GRAD, FORWARD_TRAINING
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import ModelSample, Sample, TorchSample

TENSOR_CORES = (8, 0)
"""From this compute capability on a GPU multiplies float32 matrices several times as fast with
TF32 (Ampere; NVIDIA, "Accelerating AI training with TF32 tensor cores")."""

_GPU = re.compile(r"nvidia\d+|kfd")

DEVICES = Path("/dev")


class TorchSettings:
    """Reads torch and its models.

    Args:
        torch: the module.
        device_times: knows when CUDA may be asked.
        devices: where device files are.
    """

    def __init__(self, torch: Any, device_times: DeviceTimes, devices: Path = DEVICES) -> None:
        self._torch = torch
        self._device_times = device_times
        self._devices = devices
        self._described: dict[int, ModelSample] = {}

    def forget(self) -> None:
        """After a fork: the ids of names belong to the parent's ring."""
        self._described.clear()

    def samples(self, models: Sequence[WatchedModel], now_ns: int, intern: Intern) -> list[Sample]:
        """All models once described, and torch itself."""
        for model in models:
            module = model.module_of()
            if module is not None and model.model_id not in self._described:
                try:
                    self._described[model.model_id] = describe(module, model.model_id, intern)
                except ValueError:
                    continue  # lazy parameters, which come with the first forward
        described = [
            dataclasses.replace(sample, time_ns=now_ns) for sample in self._described.values()
        ]
        return [*described, self._torch_sample(models, now_ns)]

    def _torch_sample(self, models: Sequence[WatchedModel], now_ns: int) -> TorchSample:
        served = [
            (model, module)
            for model in models
            if model.called and (module := model.module_of()) is not None
        ]
        return TorchSample(
            now_ns,
            0,
            intraop_threads=self._torch.get_num_threads(),
            interop_threads=self._torch.get_num_interop_threads(),
            grad_enabled=_any(_records_gradients(*pair) for pair in served),
            training_mode=_any(bool(model.flags & FORWARD_TRAINING) for model, _ in served),
            float32_matmul=_any(self._slow_float32(*pair) for pair in served),
            model_on_cpu=_any(self._leaves_gpu_idle(module) for _, module in served),
        )

    def _slow_float32(self, model: WatchedModel, module: Any) -> bool | None:
        """Whether it multiplies float32 matrices in full where the hardware has faster ways."""
        parameter = next(iter(module.parameters()), None)
        if parameter is None:
            return None
        if parameter.dtype != self._torch.float32 or model.autocast:
            return False
        faster = self._has_faster(parameter.device)
        return faster and self._full_precision(parameter.device)

    def _has_faster(self, device: Any) -> bool | None:
        if device.type == "cuda" and not self._torch.version.hip:
            capability = self._device_times.capability(device)
            return None if capability is None else capability >= TENSOR_CORES
        if device.type == "cpu":
            asked = [
                getattr(self._torch.cpu, name, None)
                for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
            ]
            return _any(bool(ask()) for ask in asked if ask is not None)
        return None

    def _full_precision(self, device: Any) -> bool | None:
        try:
            full = bool(self._torch.get_float32_matmul_precision() == "highest")
        except RuntimeError:
            return None  # the server has set torch's old and new switches both
        if device.type == "cuda":
            matmul = self._torch.backends.cuda.matmul
            full = full and getattr(matmul, "fp32_precision", "ieee") != "tf32"
        return full

    def _leaves_gpu_idle(self, module: Any) -> bool | None:
        """Whether it runs on the CPU though the process could see a GPU."""
        parameter = next(iter(module.parameters()), None)
        if parameter is None or not self._gpu_visible():
            return None
        return bool(parameter.device.type == "cpu")

    def _gpu_visible(self) -> bool:
        # Not torch.cuda.is_available(): asking the driver breaks CUDA in processes forked later.
        if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
            return False
        try:
            return any(_GPU.fullmatch(name) for name in os.listdir(self._devices))
        except OSError:
            return False


def _records_gradients(model: WatchedModel, module: Any) -> bool:
    return bool(model.flags & FORWARD_GRAD) and any(
        parameter.requires_grad for parameter in module.parameters()
    )


def _any(judged: Iterable[bool | None]) -> bool | None:
    """Whether it holds for any; None where nothing could be judged."""
    known = [value for value in judged if value is not None]
    return any(known) if known else None


def describe(module: Any, model_id: int, intern: Intern) -> ModelSample:
    """A model without running it."""
    parameters = list(module.parameters())
    first = parameters[0] if parameters else None
    return ModelSample(
        0,
        model_id,
        parameters=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
        dtype_id=intern(NameKind.OTHER, str(first.dtype)) if first is not None else None,
        device_id=intern(NameKind.DEVICE, str(first.device)) if first is not None else None,
        compiled=float(type(module).__name__ == "OptimizedModule"),
    )
