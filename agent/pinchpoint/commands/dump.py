"""`pinchpoint dump`: a recording or a ring as text."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from pinchpoint.commands.replay import warn_of_missing_end
from pinchpoint.dump import Dump
from pinchpoint.errors import UnreadableError
from pinchpoint.recording import Recording
from pinchpoint.ring.layout import MAGIC, RingError
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.observations import Observation
from pinchpoint.sidecar.source import RingSource


class DumpCommand:
    """Prints every record."""

    name = "dump"
    help = "print the records of a recording or a ring, one a line"
    usage = "pinchpoint dump FILE|RING"
    description = """\
Prints a recording (made with --record), or what a ring still holds, as one line per record: a kind,
then name=value. Points in time are seconds of the monotonic clock, names that end in _ns are
durations in nanoseconds, stages are wall/cpu/runqueue nanoseconds.

  pinchpoint dump run.rec | grep ^request | grep -v status=OK
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the argument."""
        parser.add_argument("file", metavar="FILE|RING", type=Path, help="a recording or a ring")

    def run(self, arguments: argparse.Namespace) -> int:
        """Print."""
        dump = Dump()
        if _is_ring(arguments.file):
            for observation in _read_ring(arguments.file):
                print(dump.line(observation))
            return 0
        recording = Recording(arguments.file)
        for observation in recording:
            print(dump.line(observation))
        warn_of_missing_end(recording)
        return 0


def _is_ring(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}") from error


def _read_ring(path: Path) -> Iterator[Observation]:
    now = Anchor(time.monotonic_ns(), time.time_ns())
    try:
        ring = RingSource(1, path, from_start=True)
    except (RingError, OSError) as error:
        raise UnreadableError(f"cannot read {path}: {error}") from error
    try:
        yield ring.opened(now).observation
        for arrival in ring.drain(now.monotonic_ns):
            yield arrival.observation
    except RingError as error:
        raise UnreadableError(f"cannot read {path}: {error}") from error
    finally:
        ring.close()
