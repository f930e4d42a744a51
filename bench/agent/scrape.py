"""What a scrape takes: rendering alone, and as Prometheus makes it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from bench.agent.exposition_server import LOADS
from bench.agent.processes import cpu_seconds
from bench.agent.scraping import OPENMETRICS, TEXT, get
from bench.overhead import environment

FORMATS = {"text": TEXT, "OpenMetrics": OPENMETRICS}
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Rendering:
    """One format of one snapshot, in milliseconds; medians. `cpu_ms` is that of the agent's
    process for a scrape, `wall_ms` runs from the connection to the last byte."""

    load: str
    format: str
    gzip: bool
    series: int
    sent_bytes: int
    rendered_ms: float
    cpu_ms: float
    wall_ms: float


def renderings(scrapes: int) -> Iterator[Rendering]:
    """Scrape each snapshot so many times in every way.

    Raises:
        RuntimeError: a scrape failed.
    """
    for load in LOADS:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.agent.exposition_server", load],
            cwd=environment.REPOSITORY,
            env=environment.variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the snapshot could not be made")
            said = json.loads(line)
            for name, accept in FORMATS.items():
                for gzip in (False, True):
                    before = cpu_seconds(process.pid).total
                    made = [get(said["address"], accept, gzip=gzip) for _ in range(scrapes)]
                    used = cpu_seconds(process.pid).total - before
                    yield Rendering(
                        load,
                        name,
                        gzip,
                        made[0].series,
                        made[0].sent_bytes,
                        median(said["rendered_ms"][name]),
                        used / scrapes * 1e3,
                        median(scrape.wall_ms for scrape in made),
                    )
        finally:
            process.communicate(timeout=_STOP_SECONDS)
