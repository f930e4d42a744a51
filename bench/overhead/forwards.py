"""What the probe adds to one forward of a torch model, inside a request.

`python -m bench.overhead.forwards` prints the samples as JSON. Layers are sampled about
twice a second: the median of a turn's batches is a forward without, their mean is what all
forwards cost with them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from bench.overhead import variants
from bench.overhead.interleaved import Measure, turns
from bench.overhead.sync_path import SyncServer

ARMS: Mapping[str, Callable[[], variants.Bare]] = {
    variants.BARE: variants.Bare,
    variants.BARE_AGAIN: variants.Bare,
    variants.PINCHPOINT: lambda: variants.Pinchpoint(variants.SAMPLE_NONE_PER_SECOND),
}
BATCHES_READ = 50
"""Batches between two readings of the ring, which must not run over."""


@dataclass(frozen=True)
class Model:
    """A model, and how many forwards make a batch of some milliseconds."""

    name: str
    forwards: int
    build: Callable[[Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Turn:
    """One second of forwards, in nanoseconds of the thread's CPU each."""

    model: str
    arm: str
    generation: int
    round: int
    median_ns: float
    mean_ns: float


def _mlp(torch: Any) -> tuple[Any, Any]:
    nn = torch.nn
    layers = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(*layers, nn.Softmax(dim=-1)), torch.zeros(1, 64)


def _cnn(torch: Any) -> tuple[Any, Any]:
    nn = torch.nn
    blocks: list[Any] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(1024, 10)), torch.zeros(1, 3, 32, 32)


MODELS = (Model("MLP, 7 modules", 200, _mlp), Model("CNN, 12 modules", 20, _cnn))


def make(model: Model, arm: str) -> Measure:
    """In the arm's own process: a server whose handler runs forwards."""
    variant = ARMS[arm]()
    variant.install()
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    module, example = model.build(torch)
    module.eval()
    batches: list[float] = []

    def handler(request: Any, _context: Any) -> Any:
        torch.set_grad_enabled(False)
        begin = time.thread_time_ns()
        for _ in range(model.forwards):
            module(example)
        batches.append((time.thread_time_ns() - begin) / model.forwards)
        return request

    server = SyncServer(variant, handler)

    def measure(calls: int) -> list[float]:
        if not calls:
            _check_layers(variant)
            return []
        batches.clear()
        before = _recorded(variant)
        for number in range(calls):
            server.rpc()
            if number % BATCHES_READ == 0:
                _recorded(variant)
        if variant.counts and _recorded(variant) - before != calls * model.forwards:
            raise RuntimeError("not every forward was recorded")
        return [median(batches), fmean(batches)]

    server.rpcs(20)
    return measure


def _recorded(variant: variants.Bare) -> int:
    from pinchpoint.schema.events import ForwardEvent

    return variant.records(ForwardEvent) if isinstance(variant, variants.Pinchpoint) else 0


def _check_layers(variant: variants.Bare) -> None:
    from pinchpoint.schema.events import LayerEvent

    if isinstance(variant, variants.Pinchpoint) and not variant.records(LayerEvent):
        raise RuntimeError("no layer was sampled")


def measure(generations: int, rounds: int, seconds: float) -> list[Turn]:
    """Interleaved turns of about `seconds` of each model.

    Raises:
        RuntimeError: not every forward was recorded.
    """
    found = []
    for model in MODELS:
        makers = {arm: (lambda model=model, arm=arm: make(model, arm)) for arm in ARMS}
        calls = max(1, round(seconds / _batch_seconds(model)))
        found += [
            Turn(model.name, turn.arm, turn.generation, turn.round, *turn.nanoseconds)
            for turn in turns(makers, generations, rounds, calls)
        ]
    return found


def _batch_seconds(model: Model) -> float:
    """How long a bare batch takes here."""
    arms = {variants.BARE: lambda: make(model, variants.BARE)}
    (turn,) = turns(arms, generations=1, rounds=1, calls=20)
    return turn.nanoseconds[0] * model.forwards / 1e9


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead.forwards", description=__doc__)
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.2)
    options = parser.parse_args()
    found = measure(options.generations, options.rounds, options.seconds)
    json.dump([asdict(turn) for turn in found], sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
