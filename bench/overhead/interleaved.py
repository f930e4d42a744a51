"""Interleaved measurements in processes of their own, forked from this one.

Each arm has its process: what one installs, another does not see, and the interpreter's
adaptive code meets the objects of one arm only. The processes take turns, so that a slow
moment of the machine falls on all arms. They are replaced every few rounds: where the memory
of a process happens to lie can be worth more than the differences looked for.
"""

from __future__ import annotations

import multiprocessing
import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

Measure = Callable[[int], list[float]]
"""Runs that many calls; nanoseconds of each, or of each part of them."""

_START_SECONDS = 60.0
_TURN_SECONDS = 60.0
_FORK = multiprocessing.get_context("fork")


class Turn(NamedTuple):
    """What one arm measured in one round."""

    arm: str
    generation: int
    round: int
    nanoseconds: list[float]


def turns(
    arms: Mapping[str, Callable[[], Measure]], generations: int, rounds: int, calls: int
) -> Iterator[Turn]:
    """Measure every arm in every round, in a new order each.

    Args:
        arms: what to make in each arm's process. It checks itself there, and raises.
        generations: how often the processes are replaced.
        rounds: of each generation.
        calls: of each turn.

    Raises:
        RuntimeError: an arm failed.
    """
    orders = shuffled(list(arms))
    for generation in range(generations):
        workers = {name: _Worker(name, arms[name]) for name in next(orders)}
        try:
            for worker in workers.values():
                worker.wait_ready()
            for number in range(rounds):
                for name in next(orders):
                    yield Turn(name, generation, number, workers[name].measure(calls))
            for worker in workers.values():
                worker.finish()
        finally:
            for worker in workers.values():
                worker.kill()


def shuffled(arms: Sequence[str]) -> Iterator[list[str]]:
    """The order of each round. An arm that always followed the same other one would inherit what
    that leaves in the caches; the orders are the same in every run."""
    chance = random.Random(1)
    while True:
        yield chance.sample(arms, len(arms))


class _Worker:
    """The process of one arm."""

    def __init__(self, name: str, arm: Callable[[], Measure]) -> None:
        self._name = name
        self._pipe, theirs = _FORK.Pipe()
        self._process: BaseProcess = _FORK.Process(
            target=_serve, args=(theirs, arm), name=name, daemon=True
        )
        self._process.start()
        theirs.close()

    def wait_ready(self) -> None:
        """Until the arm is made."""
        self._answer(_START_SECONDS)

    def measure(self, calls: int) -> list[float]:
        """One turn."""
        self._pipe.send(calls)
        answer: list[float] = self._answer(_TURN_SECONDS)
        return answer

    def finish(self) -> None:
        """Let it check itself once more."""
        self._pipe.send(0)
        self._answer(_TURN_SECONDS)

    def _answer(self, seconds: float) -> Any:
        try:
            answer = self._pipe.recv() if self._pipe.poll(seconds) else "no answer"
        except EOFError:
            answer = "its process has died"
        if isinstance(answer, str):
            raise RuntimeError(f"{self._name}: {answer}")
        return answer

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, arm: Callable[[], Measure]) -> None:
    try:
        measure = arm()
        pipe.send([])
        while True:
            pipe.send(measure(pipe.recv()))
    except EOFError:
        return
    except Exception:
        pipe.send(traceback.format_exc())
