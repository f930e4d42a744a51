"""A stand-in for a serving process, in real time: fills a ring until its standard input ends.

`python -m bench.agent.server DIR` prints how many records it has written at the end. Nothing
listens: it is the agent that is measured.
"""

from __future__ import annotations

import argparse
import select
import sys
import time
from pathlib import Path

from bench.agent.traffic import FULL_CAPTURE, Traffic
from pinchpoint.ring.writer import RingWriter

STEP_SECONDS = 0.02


def main() -> int:
    """Write until told to end."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent.server", description=__doc__)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    ring = RingWriter(options.directory)
    traffic = Traffic(ring, FULL_CAPTURE, time.monotonic_ns())
    while not select.select([sys.stdin], [], [], STEP_SECONDS)[0]:
        traffic.advance(time.monotonic_ns())
    print(traffic.records)
    ring.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
