"""Requests that wait in their handlers while a batcher's thread runs the model for many."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinchpoint.probe.process import ProcessProbe
from pinchpoint.schema.events import FLAG_SHARED_FORWARD, FORWARD_OUTSIDE
from pinchpoint.schema.terms import STAGE_INDEX
from tests.support.rings import ring_with
from tests.support.servers import SERVICE, serving, unary
from tests.support.truth import NotingPool, serving_from
from tests.support.waiting import LIMIT_SECONDS

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn

pytestmark = pytest.mark.integration

BATCH = 4
ROUNDS = 5
GATHER_SECONDS = 0.06
FORWARD_SECONDS = 0.1


class Slow(nn.Module):  # type: ignore[misc]  # torch may be missing, so it is Any
    """Waits as one does for a device.

    Attributes:
        spans: first and last line of every forward, in nanoseconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.spans: list[tuple[int, int]] = []

    def forward(self, inputs: Any) -> Any:
        begin_ns = time.monotonic_ns()
        time.sleep(FORWARD_SECONDS)
        self.spans.append((begin_ns, time.monotonic_ns()))
        return inputs * self.weight


class Batcher:
    """Gathers requests and runs the model for all of them, in a thread of its own.

    Attributes:
        model: what it runs.
        came_ns: when each request came, in the order of the rounds.
        spans: before and after every call of the model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.came_ns: list[int] = []
        self.spans: list[tuple[int, int]] = []
        self._closed = False
        lock = threading.Lock()
        self._arrived, self._done = threading.Condition(lock), threading.Condition(lock)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __call__(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        came_ns = time.monotonic_ns()
        with self._arrived:
            self.came_ns.append(came_ns)
            self._arrived.notify()
            rounds = len(self.spans) + 1
            assert self._done.wait_for(lambda: len(self.spans) == rounds, LIMIT_SECONDS)
        return request

    def close(self) -> None:
        """End the thread."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()
        self._thread.join(LIMIT_SECONDS)

    def _run(self) -> None:
        while self._gather():
            time.sleep(GATHER_SECONDS)
            begin_ns = time.monotonic_ns()
            self.model(torch.ones(BATCH, 2))
            end_ns = time.monotonic_ns()
            with self._done:
                self.spans.append((begin_ns, end_ns))
                self._done.notify_all()

    def _gather(self) -> bool:
        """Whether a batch is there; all of its requests stand still by then."""
        with self._arrived:
            full = (len(self.spans) + 1) * BATCH
            self._arrived.wait_for(lambda: self._closed or len(self.came_ns) == full)
            return not self._closed


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(Slow().eval())
    yield made
    made.close()


def test_the_wait_for_the_batch_and_the_forward_are_told_apart(
    probe: ProcessProbe, ring_dir: Path, batcher: Batcher
) -> None:
    """And the forward is counted once, however many requests share it."""
    pool = NotingPool(BATCH)
    with serving_from(pool, {"Run": unary(batcher)}) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Run")
        for _ in range(ROUNDS):
            for future in [call.future(b"x") for _ in range(BATCH)]:
                assert future.result(LIMIT_SECONDS) == b"x"
        ring = ring_with(ring_dir, lambda found: len(found.details) == ROUNDS * BATCH)

    assert len(ring.requests()) == len(ring.details) == ROUNDS * BATCH
    assert len(batcher.spans) == len(ring.forwards()) == ROUNDS
    assert all(f.flags & FORWARD_OUTSIDE and f.batch_size == BATCH for f in ring.forwards())
    assert all(r.flags & FLAG_SHARED_FORWARD for r in ring.requests())
    assert {(r.batch_size, r.forwards) for r in ring.requests()} == {(BATCH, 1)}
    assert {ring.text(request.model_id) for request in ring.requests()} == {"Slow"}

    def seen_ns(stage: str) -> int:
        return sum(detail.stages[STAGE_INDEX[stage]].wall_ns for detail in ring.details)

    # Sums, because nobody knows which worker had which request of a round.
    forwarding_ns = BATCH * sum(begin for begin, _ in batcher.spans)
    busy_ns = sum(task.own_ns for task in pool.tasks)
    in_forward_ns = BATCH * sum(begin for begin, _ in batcher.model.spans)
    begun_ns = sum(task.begun_ns for task in pool.tasks)
    assert forwarding_ns - sum(batcher.came_ns) - busy_ns <= seen_ns("batch_wait")
    assert seen_ns("batch_wait") <= in_forward_ns - begun_ns
    inside_ns = BATCH * sum(end - begin for begin, end in batcher.model.spans)
    around_ns = BATCH * sum(end - begin for begin, end in batcher.spans)
    assert inside_ns <= seen_ns("forward") <= around_ns


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
