from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pinchpoint.samplers.source import SourceNoData
from pinchpoint.samplers.torch_memory import TorchMemorySampler
from pinchpoint.schema.samples import TorchMemorySample
from tests.unit.samplers.support import Names

UUID = "00000000-0000-0000-0000-000000000000"

STATS = {
    "allocated_bytes.all.current": 1_000,
    "allocated_bytes.all.peak": 9_000,
    "reserved_bytes.all.current": 2_000,
    "num_alloc_retries": 3,
    "num_ooms": 1,
}


class FakeTorch:
    """What the sampler may ask of torch; anything else is an AttributeError."""

    def __init__(self, *properties: Any, initialized: bool = True, backend: str = "native") -> None:
        self._C = SimpleNamespace(_cuda_getDeviceCount=lambda: len(properties))
        self.cuda = SimpleNamespace(
            is_initialized=lambda: initialized,
            get_allocator_backend=lambda: backend,
            memory_stats=lambda index: STATS if index == 0 else {},
            get_device_properties=lambda index: properties[index],
        )


def device(uuid: str | None = UUID, name: str = "Fake H100") -> SimpleNamespace:
    return SimpleNamespace(name=name) if uuid is None else SimpleNamespace(name=name, uuid=uuid)


def read(torch: Any) -> tuple[list[TorchMemorySample], Names]:
    names = Names()
    modules = {} if torch is None else {"torch": torch}
    samples = TorchMemorySampler(names, modules).sample(7)
    return [sample for sample in samples if isinstance(sample, TorchMemorySample)], names


def test_each_gpu_has_what_torch_has_taken_of_it() -> None:
    """Now, not at its peak."""
    samples, names = read(FakeTorch(device(), device("11111111-0000-0000-0000-000000000000")))
    assert samples[0] == TorchMemorySample(7, 1, 1_000, 2_000, 3, 1)
    assert samples[1] == TorchMemorySample(7, 2)
    assert [names.text(sample.instance) for sample in samples] == [
        f"GPU-{UUID}",
        "GPU-11111111-0000-0000-0000-000000000000",
    ]


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        (device(None), "cuda:0"),
        (device(name="NVIDIA H100 80GB HBM3 MIG 1g.10gb"), f"MIG-{UUID}"),
    ],
)
def test_a_gpu_is_named_as_the_driver_names_it(properties: Any, name: str) -> None:
    """Where torch tells enough for that."""
    (sample,), names = read(FakeTorch(properties))
    assert names.text(sample.instance) == name


@pytest.mark.parametrize(
    "torch",
    [
        None,
        SimpleNamespace(),
        FakeTorch(device(), initialized=False),
        FakeTorch(device(), backend="cudaMallocAsync"),
    ],
)
def test_nothing_is_asked_before_the_server_uses_the_gpu(torch: Any) -> None:
    """Nor of an allocator that would have to ask CUDA."""
    with pytest.raises(SourceNoData):
        read(torch)


def test_it_is_asked_every_ten_seconds() -> None:
    """It holds the interpreter's lock while it waits for the allocator's."""
    sampler = TorchMemorySampler(Names(), {"torch": FakeTorch(device())})
    asked = []
    for second in range(25):
        try:
            sampler.sample(second * 1_000_000_000)
        except SourceNoData:
            continue
        asked.append(second)
    assert asked == [0, 10, 20]


@pytest.fixture
def real() -> Any:
    """The real torch."""
    return pytest.importorskip("torch")


def test_a_torch_without_a_gpu_has_nothing_to_say(real: Any) -> None:
    """The real one, which is left as it was."""
    if real.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SourceNoData):
        read(real)
    assert not real.cuda.is_initialized()


def test_what_the_real_torch_takes_is_seen(real: Any) -> None:
    """Under the name that the driver gives the GPU."""
    if not real.cuda.is_available():
        pytest.skip("there is no GPU")
    real.cuda.init()
    (before, *_), names = read(real)
    kept = real.empty(1 << 20, dtype=real.uint8, device="cuda:0")
    (after, *_), _ = read(real)
    assert (after.allocated_bytes or 0) - (before.allocated_bytes or 0) == kept.nbytes
    assert (after.reserved_bytes or 0) >= (after.allocated_bytes or 0)
    assert names.text(before.instance).startswith(("GPU-", "MIG-"))
