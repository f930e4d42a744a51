"""How many records a second one core reads: as bytes, as observations, and counted.

`python -m bench.agent.reading` prints the nanoseconds of a record in each turn as JSON. The
three readers follow the same ring and take turns; what is lost or left out ends the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.agent.processes import SHARED_MEMORY
from bench.agent.traffic import FULL_CAPTURE, SECOND_NS, Traffic
from pinchpoint.pipeline import Pipeline
from pinchpoint.ring.reader import Loss, RingReader
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.wire import Segment
from pinchpoint.sidecar.source import RingSource

TURN_SECONDS = 4
"""Of the server: 12,000 records, three quarters of the ring."""

BYTES, OBSERVATIONS, COUNTED = "bytes", "observations", "counted by the pipeline"
STAGES = (BYTES, OBSERVATIONS, COUNTED)


def turns(count: int) -> Iterator[dict[str, float]]:
    """Nanoseconds of a record by stage, in so many turns."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
        now_ns = time.monotonic_ns()
        ring = RingWriter(Path(directory))
        readers: dict[str, Callable[[int], int]] = {
            BYTES: _bytes(ring.path),
            OBSERVATIONS: _observations(ring.path),
            COUNTED: _counted(ring.path),
        }
        traffic = Traffic(ring, FULL_CAPTURE, now_ns)
        for reader in readers.values():
            reader(now_ns)
        for _ in range(count):
            before = traffic.records
            now_ns += TURN_SECONDS * SECOND_NS
            traffic.advance(now_ns)
            written = traffic.records - before
            turn = {}
            for stage, read in readers.items():
                begin_ns = time.process_time_ns()
                found = read(now_ns)
                turn[stage] = (time.process_time_ns() - begin_ns) / written
                if found != written:
                    raise RuntimeError(f"{stage}: {found} of {written} records")
            yield turn
        ring.close()


def _bytes(path: Path) -> Callable[[int], int]:
    reader = RingReader(path, from_start=True)

    def read(now_ns: int) -> int:
        slots = [reader.poll(segment, now_ns, _refuse) for segment in Segment]
        return len(slots[Segment.EVENTS]) + len(slots[Segment.DETAILS])

    return read


def _observations(path: Path) -> Callable[[int], int]:
    source = RingSource(1, path, from_start=True)

    def read(now_ns: int) -> int:
        found = 0
        for _ in source.poll(now_ns):
            found += 1
        return found

    return read


def _counted(path: Path) -> Callable[[int], int]:
    source = RingSource(1, path, from_start=True)
    pipeline = Pipeline()
    pipeline.feed(source.opened(Anchor(time.monotonic_ns(), time.time_ns())).observation)

    def read(now_ns: int) -> int:
        found = 0
        for arrival in source.poll(now_ns):
            pipeline.feed(arrival.observation)
            found += 1
        return found

    return read


def _refuse(loss: Loss) -> None:
    raise RuntimeError(f"records were lost: {loss}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent.reading", description=__doc__)
    parser.add_argument("--turns", type=int, default=40)
    json.dump(list(turns(parser.parse_args().turns)), sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
