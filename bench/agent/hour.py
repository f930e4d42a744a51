"""An hour of a server's records, read and counted as fast as they can be.

`python -m bench.agent.hour` writes them to a ring in simulated time, reads them as the agent
does, with a tick four times and a snapshot once a second, and prints a line of JSON for every
five minutes of that time. In the last third of it preprocessing takes longer: a verdict with a
cause is the dearest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.agent.processes import SHARED_MEMORY, resident_bytes
from bench.agent.traffic import FULL_CAPTURE, SECOND_NS, Load, Traffic
from pinchpoint.pipeline import Pipeline
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.observations import AGENT, Observation, RecordsLost, Tick
from pinchpoint.sidecar.attach import Rings
from pinchpoint.sidecar.schedule import PERIOD_NS
from pinchpoint.snapshot import AgentFacts, Snapshot

STEP_SECONDS = 300
FAULT = 2.5
"""Times the usual preprocessing."""


@dataclass(frozen=True)
class Step:
    """What so many minutes have come to. Shares of one core are of the last five alone."""

    minutes: int
    requests: int
    records: int
    resident_bytes: int
    read_ratio: float
    look_ratio: float
    state: str


class Replay:
    """A ring, its traffic, and the agent's half without its web server.

    Args:
        directory: where the ring is made.
        load: what the server does.

    Attributes:
        read_ns: CPU spent on reading and counting.
        look_ns: CPU spent on verdicts and snapshots.
        snapshot: the newest.
    """

    def __init__(self, directory: Path, load: Load) -> None:
        self.read_ns = self.look_ns = 0
        self.snapshot: Snapshot | None = None
        self._rings = Rings(directory, _refuse)
        self._pipeline = Pipeline()
        self._now_ns = time.monotonic_ns()
        self._to_wall_ns = time.time_ns() - self._now_ns
        self._agent()
        self._ring = RingWriter(directory)
        self.traffic = Traffic(self._ring, load, self._now_ns)

    def second(self) -> None:
        """One second of the server and of the agent."""
        for _ in range(SECOND_NS // PERIOD_NS):
            self._now_ns += PERIOD_NS
            self.traffic.advance(self._now_ns)
            self._agent()

    def close(self) -> None:
        """Release the ring."""
        self._rings.close()
        self._ring.close()

    def _agent(self) -> None:
        begin_ns = time.process_time_ns()
        now = Anchor(self._now_ns, self._now_ns + self._to_wall_ns)
        for arrival in self._rings.poll(now):
            if isinstance(arrival.observation.record, RecordsLost):
                raise RuntimeError(f"records were lost: {arrival.observation.record}")
            self._pipeline.feed(arrival.observation)
        read_ns = time.process_time_ns()
        if self._pipeline.feed(Observation(AGENT, Tick(*now))) is not None:
            self.snapshot = self._pipeline.snapshot(AgentFacts())
        self.read_ns += read_ns - begin_ns
        self.look_ns += time.process_time_ns() - read_ns


def steps(load: Load, minutes: int) -> Iterator[Step]:
    """Replay so many minutes, a multiple of five."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
        replay = Replay(Path(directory), load)
        try:
            for second in range(minutes * 60):
                if second == minutes * 40:
                    replay.traffic.preprocess = FAULT
                replay.second()
                if (second + 1) % STEP_SECONDS == 0:
                    yield _step(replay, second + 1)
        finally:
            replay.close()


def _step(replay: Replay, second: int) -> Step:
    assert replay.snapshot is not None
    passed_ns = STEP_SECONDS * SECOND_NS
    step = Step(
        second // 60,
        replay.traffic.requests,
        replay.traffic.records,
        resident_bytes("self"),
        replay.read_ns / passed_ns,
        replay.look_ns / passed_ns,
        replay.snapshot.verdict.primary,
    )
    replay.read_ns = replay.look_ns = 0
    return step


def _refuse(sentence: str) -> None:
    raise RuntimeError(sentence)


def main() -> int:
    """Replay and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent.hour", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    for step in steps(FULL_CAPTURE, parser.parse_args().minutes):
        print(json.dumps(asdict(step)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
