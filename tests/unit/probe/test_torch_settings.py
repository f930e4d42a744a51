from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest

from pinchpoint.probe.guard import Part
from pinchpoint.probe.torch_cuda import DeviceTimes
from pinchpoint.probe.torch_looks import WatchedModel
from pinchpoint.probe.torch_settings import TorchSettings
from pinchpoint.schema.events import FORWARD_GRAD, FORWARD_TRAINING
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import ModelSample, TorchSample
from tests.support.fake_cuda import FakeCuda, FakeDevice

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn


class Served:
    """A process with models, and torch's settings as a test wants them."""

    def __init__(self, devices: Path, *, cuda: FakeCuda | None = None, **torch_has: Any) -> None:
        settings: dict[str, Any] = {
            "float32": torch.float32,
            "get_num_threads": lambda: 3,
            "get_num_interop_threads": lambda: 2,
            "get_float32_matmul_precision": lambda: "highest",
            "version": SimpleNamespace(hip=None),
            "backends": torch.backends,
            "cpu": SimpleNamespace(),
            "cuda": cuda or FakeCuda(initialized=False),
        }
        self.torch = SimpleNamespace(**(settings | torch_has))
        times = DeviceTimes(Part("torch_cuda"))
        times.install(self.torch)
        self.settings = TorchSettings(self.torch, times, devices)
        self.names: list[str] = [""]
        self.models: list[WatchedModel] = []
        self._modules: list[Any] = []

    def serve(self, module: Any, *, called: bool = True, flags: int = 0) -> WatchedModel:
        """A model of the process, and how it was last seen."""
        model = WatchedModel(len(self.models) + 1, ref(module))
        model.called = called
        model.flags = flags
        self.models.append(model)
        self._modules.append(module)
        return model

    def _intern(self, _kind: NameKind, text: str) -> int:
        self.names.append(text)
        return len(self.names) - 1

    def torch_sample(self) -> TorchSample:
        """What is said of torch."""
        (sample,) = (s for s in self._samples() if isinstance(s, TorchSample))
        return sample

    def model_samples(self) -> list[ModelSample]:
        """What is said of the models."""
        return [s for s in self._samples() if isinstance(s, ModelSample)]

    def _samples(self) -> list[Any]:
        return list(self.settings.samples(self.models, 5, self._intern))


class OnGpu(nn.Module):  # type: ignore[misc]
    """What is read of a model whose parameters are on a GPU."""

    def parameters(self, recurse: bool = True) -> Any:
        return iter(
            [
                SimpleNamespace(
                    dtype=torch.float32,
                    device=FakeDevice(0),
                    numel=lambda: 4,
                    element_size=lambda: 4,
                )
            ]
        )


def test_without_a_called_model_only_threads_are_known(tmp_path: Path) -> None:
    """What nobody runs is no finding, and neither is its absence."""
    served = Served(tmp_path)
    served.serve(nn.Linear(2, 2), called=False, flags=FORWARD_GRAD)
    assert served.torch_sample() == TorchSample(5, 0, intraop_threads=3, interop_threads=2)


def test_gradients_and_training_mode_are_those_of_the_last_look(tmp_path: Path) -> None:
    """One model that does is enough."""
    served = Served(tmp_path)
    served.serve(nn.Linear(2, 2))
    assert (served.torch_sample().grad_enabled, served.torch_sample().training_mode) == (0, 0)
    served.serve(nn.Linear(2, 2), flags=FORWARD_GRAD | FORWARD_TRAINING)
    assert (served.torch_sample().grad_enabled, served.torch_sample().training_mode) == (1, 1)


def test_frozen_parameters_record_no_gradients(tmp_path: Path) -> None:
    """Enabled or not, there is nothing to record."""
    served = Served(tmp_path)
    served.serve(nn.Linear(2, 2).requires_grad_(False), flags=FORWARD_GRAD)
    assert served.torch_sample().grad_enabled == 0


def test_a_model_is_described_once_its_parameters_exist(tmp_path: Path) -> None:
    """Lazy ones come with the first forward."""
    served = Served(tmp_path)
    lazy = nn.LazyLinear(2)
    served.serve(lazy)
    assert served.model_samples() == []
    lazy(torch.ones(1, 4))
    assert served.model_samples()[0].parameters == 10


def test_a_model_that_is_gone_is_no_finding(tmp_path: Path) -> None:
    """It may still be described."""
    served = Served(tmp_path)
    served.serve(nn.Linear(2, 2), flags=FORWARD_GRAD)
    assert len(served.model_samples()) == 1
    served._modules.clear()
    assert served.torch_sample().grad_enabled is None
    assert len(served.model_samples()) == 1


@pytest.mark.parametrize(
    ("capability", "precision", "found"),
    [((8, 0), "highest", 1), ((9, 0), "high", 0), ((7, 5), "highest", 0)],
)
def test_full_float32_on_tensor_cores_is_found(
    tmp_path: Path, capability: tuple[int, int], precision: str, found: int
) -> None:
    """Where the GPU has TF32 and torch was not told to use it."""
    served = Served(
        tmp_path,
        cuda=FakeCuda(capability=capability),
        get_float32_matmul_precision=lambda: precision,
    )
    served.serve(OnGpu())
    assert served.torch_sample().float32_matmul == found


def test_float32_is_not_judged_where_it_cannot_be(tmp_path: Path) -> None:
    """A torch that cannot tell, a GPU of another make, settings that contradict each other."""
    served = Served(tmp_path)
    served.serve(nn.Linear(2, 2))
    assert served.torch_sample().float32_matmul is None

    other = Served(tmp_path, cuda=FakeCuda(), version=SimpleNamespace(hip="6.2"))
    other.serve(OnGpu())
    assert other.torch_sample().float32_matmul is None

    def mixed() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    contradicting = Served(tmp_path, cuda=FakeCuda(), get_float32_matmul_precision=mixed)
    contradicting.serve(OnGpu())
    assert contradicting.torch_sample().float32_matmul is None


def test_a_model_in_another_precision_is_no_finding(tmp_path: Path) -> None:
    """Its own, or that of autocast."""
    fast = SimpleNamespace(_is_avx512_bf16_supported=lambda: True)
    served = Served(tmp_path, cpu=fast)
    served.serve(nn.Linear(2, 2).to(torch.bfloat16))
    served.serve(nn.Linear(2, 2)).autocast = True
    assert served.torch_sample().float32_matmul == 0
    served.serve(nn.Linear(2, 2))
    assert served.torch_sample().float32_matmul == 1


def test_the_real_torch_can_be_asked(tmp_path: Path) -> None:
    """Whatever it answers here, it says nothing and warns of nothing."""
    served = Served(tmp_path)
    served.settings._torch = torch
    served.serve(nn.Linear(2, 2))
    sample = served.torch_sample()
    assert sample.float32_matmul in (None, 0, 1)
    assert sample.intraop_threads == torch.get_num_threads()
    assert not torch.cuda.is_initialized()


@pytest.mark.parametrize("device", ["nvidia0", "nvidia11", "kfd"])
def test_a_model_on_the_cpu_beside_a_gpu_is_found(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device files say that there is one."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    served = Served(tmp_path, cuda=FakeCuda())
    served.serve(OnGpu())
    assert served.torch_sample().model_on_cpu is None
    (tmp_path / device).touch()
    assert served.torch_sample().model_on_cpu == 0
    served.serve(nn.Linear(2, 2))
    assert served.torch_sample().model_on_cpu == 1


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_gpu_that_was_hidden_on_purpose_is_none(
    tmp_path: Path, visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither are the files that the driver's tools use."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (tmp_path / "nvidia0").touch()
    served = Served(tmp_path)
    served.serve(nn.Linear(2, 2))
    assert served.torch_sample().model_on_cpu is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (tmp_path / "nvidia0").rename(tmp_path / "nvidiactl")
    assert served.torch_sample().model_on_cpu is None
