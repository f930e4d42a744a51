from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinchpoint.probe import torch_forward, torch_slot
from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.torch_forward import TorchForwardProbe
from pinchpoint.probe.torch_slot import SLOT, references_in_call
from pinchpoint.samplers.python_runtime import GcWatch
from tests.support.rings import the_ring
from tests.support.waiting import LIMIT_SECONDS

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn


@pytest.fixture
def probe(ring_dir: Path) -> Iterator[TorchForwardProbe]:
    made = TorchForwardProbe(Part("torch"), Part("torch_cuda"))
    made.install(torch, look_back=False)
    recorder = Recorder(ring_dir, GcWatch(), made)
    made.start(recorder)
    yield made
    made.uninstall()
    recorder.close()
    assert made.part.errors == 0, made.part.last_error


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The modules whose ownership of a call was looked up in the caller's frame."""
    asked: list[Any] = []
    original = torch_slot.stray

    def stray(function: Any, module: Any, frame: Any) -> Any:
        asked.append(module)
        return original(function, module, frame)

    monkeypatch.setattr(torch_forward, "stray", stray)
    return asked


def watched(probe: TorchForwardProbe, model: Any) -> Any:
    probe.before_handler()
    assert SLOT in model.__dict__
    return model


def inputs() -> Any:
    return torch.ones(2, 8)


def by_hand(model: Any) -> Any:
    """A copy with its own weights, as libraries make it."""
    twin: Any = object.__new__(type(model))
    twin.__dict__ = model.__dict__.copy()
    twin._parameters = {n: nn.Parameter(p.detach() * 2) for n, p in model._parameters.items()}
    return twin


def test_the_references_of_a_call_can_be_counted_here() -> None:
    """If not, every call asks for its owner: right, but dear."""
    assert references_in_call(nn.Module) > 0


def test_a_call_of_the_only_owner_is_not_looked_up(
    probe: TorchForwardProbe, asked: list[Any]
) -> None:
    """The count alone says that nobody else can have called."""
    model = watched(probe, nn.Linear(8, 4))
    for _ in range(200):
        model(inputs())
    assert asked == []


def test_a_copy_by_hand_computes_with_its_own_weights(
    probe: TorchForwardProbe, ring_dir: Path, asked: list[Any]
) -> None:
    """It is recognised, and its slot is empty from then on."""
    model = watched(probe, nn.Linear(8, 4))
    expected = model(inputs())
    twin = by_hand(model)
    assert torch.equal(twin(inputs()), expected * 2)
    assert asked == [model]
    assert SLOT not in twin.__dict__
    assert torch.equal(model(inputs()), expected)
    assert torch.equal(twin(inputs()), expected * 2)
    assert len(the_ring(ring_dir).forwards()) == 2


def test_the_original_is_recorded_beside_its_copy(probe: TorchForwardProbe, ring_dir: Path) -> None:
    """As long as the copy has not been called."""
    model = watched(probe, nn.Linear(8, 4))
    twin = by_hand(model)
    assert torch.equal(model(inputs()) * 2, twin.forward(inputs()))
    assert SLOT in twin.__dict__
    assert len(the_ring(ring_dir).forwards()) == 1


def test_a_copy_outlives_its_original(probe: TorchForwardProbe, asked: list[Any]) -> None:
    """What it took along refers to nothing any more."""
    model = watched(probe, nn.Linear(8, 4))
    expected = model.forward(inputs())
    twin = by_hand(model)
    del model
    assert torch.equal(twin(inputs()), expected * 2)
    assert asked == [None]


def test_copies_outlive_the_probe(probe: TorchForwardProbe) -> None:
    """Two of them: as many references as in the beginning."""
    model = watched(probe, nn.Linear(8, 4))
    expected = model(inputs())
    first, second = by_hand(model), by_hand(model)
    probe.uninstall()
    assert SLOT not in model.__dict__
    assert torch.equal(first(inputs()), expected * 2)
    assert torch.equal(second(inputs()), expected * 2)


def test_a_copy_of_the_dictionary_by_deepcopy_computes_with_its_own_weights(
    probe: TorchForwardProbe,
) -> None:
    """torch.nn.utils.parametrize and torch.export copy so: functions are copied as they are."""
    model = watched(probe, nn.Linear(8, 4))
    twin: Any = object.__new__(type(model))
    twin.__dict__ = copy.deepcopy(model.__dict__)
    with torch.no_grad():
        twin.weight.zero_()
        twin.bias.zero_()
    assert torch.equal(twin(inputs()), torch.zeros(2, 4))


def test_calls_at_the_same_time_are_all_recorded(probe: TorchForwardProbe, ring_dir: Path) -> None:
    """Each holds a reference: those are looked up, and found to be the owner's."""

    class Meeting(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.barrier = threading.Barrier(3)

        def forward(self, values: Any) -> Any:
            self.barrier.wait(LIMIT_SECONDS)
            return values * self.weight

    model = watched(probe, Meeting())
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(model(inputs()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert len(results) == 3
    assert len(the_ring(ring_dir).forwards()) == 3


def test_a_model_and_what_hangs_on_it_are_freed_without_the_collector(
    probe: TorchForwardProbe,
) -> None:
    """A function that knows itself is a circle, and circles would pile up per request."""
    model = watched(probe, nn.Linear(8, 4))
    model(inputs())
    function = model.__dict__[SLOT]
    references = sys.getrefcount(function)
    del model
    assert sys.getrefcount(function) == 2 < references
    assert probe._watched == {}
