from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.torch_cuda import DeviceTimes
from pinchpoint.probe.torch_layers import COST_RATIO, LayerSampler
from pinchpoint.probe.torch_looks import INTERVAL_NS, JITTER_NS, Look, Looks, WatchedModel
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.events import FORWARD_GRAD, FORWARD_TRAINING
from tests.support.rings import the_ring

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn


class NoModels:
    pending = False

    def before_handler(self) -> None:
        """Nothing to pick up."""


class Bench:
    """Looks at forwards of one model, at times of the test's choice."""

    def __init__(self, directory: Path) -> None:
        self.recorder = Recorder(directory, GcWatch(), NoModels())
        self.sampler = LayerSampler()
        self.looks = Looks(Part("torch"), self.sampler, DeviceTimes(Part("torch_cuda")))
        self.looks.install(torch)
        self.module = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval()
        self.model = WatchedModel(1, lambda: self.module)  # type: ignore[arg-type]

    def forward(self, now_ns: int, wall_ns: int) -> bool:
        """A forward that took so long; whether its layers were sampled."""
        look: Look | None = None
        if now_ns >= self.model.due_ns:
            look = self.looks.begin(self.model, self.module, (), {}, now_ns, self.recorder)
        self.module(torch.ones(1, 8))
        self.model.spent_ns += wall_ns
        if look is not None:
            look.stop()
            look.write(self.recorder, 1, now_ns, wall_ns)
        return look is not None


@pytest.fixture
def bench(ring_dir: Path) -> Bench:
    if "torch._dynamo" in sys.modules:
        pytest.skip("no layers are sampled once dynamo is loaded")
    return Bench(ring_dir)


def test_the_first_forward_is_left_alone_and_the_second_is_not(bench: Bench) -> None:
    """Models compile and initialise themselves in the first."""
    assert not bench.forward(0, 1_000_000)
    assert bench.forward(1_000_000, 1_000_000)
    assert not bench.forward(2_000_000, 1_000_000)


def test_two_forwards_a_second_are_sampled_where_forwards_are_worth_it(bench: Bench) -> None:
    """Ten seconds of forwards so dear that no sample costs more than its share of them."""
    step_ns = 10_000_000
    sampled = sum(bench.forward(n * step_ns, 10_000_000_000) for n in range(1000))
    assert 20 <= sampled <= 10e9 / INTERVAL_NS
    assert INTERVAL_NS + JITTER_NS <= 500_000_000


def test_samples_cost_no_more_than_their_share_of_the_forwards(bench: Bench) -> None:
    """Forwards of 1 us earn hundreds of seconds for each sample: all but the first wait."""
    sampled = sum(bench.forward(n * 1_000_000_000, 1_000) for n in range(200))
    assert sampled == 1
    owed_ns = -bench.model.balance_ns
    assert owed_ns > 0
    bench.model.spent_ns = int(owed_ns / COST_RATIO) + 100
    assert bench.forward(1000 * 1_000_000_000, 1_000)


def test_the_cost_counts_every_module(bench: Bench) -> None:
    """A model of many modules is sampled less often."""

    def cost_ns(modules: int) -> int:
        bench.module = nn.Sequential(*(nn.ReLU() for _ in range(modules)))
        forward = bench.sampler.begin()
        assert forward is not None
        bench.module(torch.ones(1, 8))
        bench.sampler.end()
        assert sum(layer.calls for layer in forward.layers.values()) == modules + 1
        return forward.cost_ns

    # The least of many: what interrupts a forward is counted as its cost too.
    assert 2 * min(cost_ns(1) for _ in range(50)) < min(cost_ns(50) for _ in range(50))


def test_only_one_forward_is_sampled_at_a_time(bench: Bench) -> None:
    """The hooks are the process'."""
    first = bench.sampler.begin()
    assert first is not None
    assert bench.sampler.begin() is None
    bench.sampler.end()
    assert bench.sampler.begin() is not None
    bench.sampler.end()


def test_a_look_tells_the_modes_of_the_model(bench: Bench) -> None:
    """As they are in the forward, on its thread."""
    with torch.inference_mode():
        bench.forward(0, 1)
    assert bench.model.flags == 0
    bench.module.train()
    bench.forward(1, 1)
    assert bench.model.flags == FORWARD_GRAD | FORWARD_TRAINING
    assert bench.model.autocast is False
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        bench.forward(10**12, 1)
    assert bool(bench.model.autocast)
    assert bench.model.flags == FORWARD_TRAINING


def test_layers_are_written_with_their_names(bench: Bench, ring_dir: Path) -> None:
    """Of the model that was called."""
    bench.forward(0, 1)
    bench.forward(1, 1)
    ring = the_ring(ring_dir)
    assert {ring.text(layer.layer_id) for layer in ring.layers()} == {"0", "1", "(model)"}
