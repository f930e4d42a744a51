"""Requests that wait in their handlers while a batcher's thread runs the model for many."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinchpoint.probe.process import ProcessProbe
from pinchpoint.schema.events import FLAG_SHARED_FORWARD, FORWARD_OUTSIDE
from pinchpoint.schema.terms import STAGE_INDEX
from tests.support.rings import ring_with
from tests.support.servers import SERVICE, serving, unary
from tests.support.waiting import LIMIT_SECONDS

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn

pytestmark = pytest.mark.integration

BATCH = 4
ROUNDS = 5
GATHER_SECONDS = 0.06
FORWARD_SECONDS = 0.1


class Slow(nn.Module):  # type: ignore[misc]  # torch may be missing, so it is Any
    """Waits as one does for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Any) -> Any:
        time.sleep(FORWARD_SECONDS)
        return inputs * self.weight


class Batcher:
    """Gathers requests and runs the model for all of them, in a thread of its own.

    Attributes:
        measured: of every request in order: seconds from its arrival here to the forward, and in
            the forward.
        forwards: how often the model has run.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._queue: queue.Queue[tuple[float, Future[bytes]] | None] = queue.Queue()
        self.measured: list[tuple[float, float]] = []
        self.forwards = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __call__(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        done: Future[bytes] = Future()
        self._queue.put((time.monotonic(), done))
        return done.result(LIMIT_SECONDS)

    def close(self) -> None:
        """End the thread."""
        for _ in range(BATCH):
            self._queue.put(None)
        self._thread.join(LIMIT_SECONDS)

    def _run(self) -> None:
        while True:
            batch = [item for item in (self._queue.get() for _ in range(BATCH)) if item]
            if len(batch) < BATCH:
                return
            time.sleep(GATHER_SECONDS)
            began = time.monotonic()
            self._model(torch.ones(BATCH, 2))
            ended = time.monotonic()
            self.forwards += 1
            self.measured += [(began - arrived, ended - began) for arrived, _ in batch]
            for _, done in batch:
                done.set_result(b"y")


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(Slow().eval())
    yield made
    made.close()


def test_the_wait_for_the_batch_and_the_forward_are_told_apart(
    probe: ProcessProbe, ring_dir: Path, batcher: Batcher
) -> None:
    """And the forward is counted once, however many requests share it."""
    with serving({"Run": unary(batcher)}, workers=BATCH) as served:
        call = served.channel.unary_unary(f"/{SERVICE}/Run")
        for _ in range(ROUNDS):
            for future in [call.future(b"x") for _ in range(BATCH)]:
                assert future.result(LIMIT_SECONDS) == b"y"
        ring = ring_with(ring_dir, lambda found: len(found.details) == ROUNDS * BATCH)

    assert len(ring.requests()) == len(ring.details) == ROUNDS * BATCH
    assert batcher.forwards == ROUNDS
    assert len(ring.forwards()) == ROUNDS
    assert all(f.flags & FORWARD_OUTSIDE and f.batch_size == BATCH for f in ring.forwards())
    assert all(r.flags & FLAG_SHARED_FORWARD for r in ring.requests())
    assert {(r.batch_size, r.forwards) for r in ring.requests()} == {(BATCH, 1)}
    assert {ring.text(request.model_id) for request in ring.requests()} == {"Slow"}

    for place, name in ((0, "batch_wait"), (1, "forward")):
        seen = sum(detail.stages[STAGE_INDEX[name]].wall_ns for detail in ring.details) / 1e9
        measured = sum(measurement[place] for measurement in batcher.measured)
        assert seen == pytest.approx(measured, rel=0.15), name


def test_a_handler_beside_a_busy_model_is_not_given_its_forward(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """A warm-up loop runs; the handler computes and waits for nobody."""
    model = Slow().eval()
    stop = threading.Event()
    between = threading.Event()

    def warm_up() -> None:
        while not stop.is_set():
            model(torch.ones(1, 2))
            between.set()

    def compute(request: bytes, _context: grpc.ServicerContext) -> bytes:
        # As long as two forwards: one of them begins and ends within the handler.
        for _ in range(2):
            between.clear()
            while not between.is_set():
                sum(range(1000))
        return request

    with serving({"Run": unary(compute)}) as served:
        loop = threading.Thread(target=warm_up)
        loop.start()
        try:
            for _ in range(3):
                assert served.call("Run") == b"x"
            ring = ring_with(ring_dir, lambda found: len(found.requests()) == 3)
        finally:
            stop.set()
            loop.join(LIMIT_SECONDS)
    assert len(ring.forwards()) >= 2
    assert not any(request.flags & FLAG_SHARED_FORWARD for request in ring.requests())
    assert {request.forwards for request in ring.requests()} == {0}
