"""Serves one snapshot as the agent does, for `scrape.py`.

Prints what rendering took, in this process and without a network, and where it serves, as a
line of JSON; ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from bench.agent.hour import Replay
from bench.agent.processes import SHARED_MEMORY
from bench.agent.traffic import Load
from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.http import serve
from pinchpoint.expose.state import PublishedState

LOADS = {
    "about 500": Load(methods=4, stages=1),
    "all that fit": Load(methods=200, models=20, layers=40, stages=40, codes=17),
}
"""A few methods; and more names of everything than the agent keeps apart."""

_SECONDS = 20
_RENDERERS: dict[str, Callable[[CollectorRegistry], bytes]] = {
    "text": generate_latest,
    "OpenMetrics": generate_openmetrics,
}


def main() -> int:
    """Render, then serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent.exposition_server")
    parser.add_argument("load", choices=tuple(LOADS))
    parser.add_argument("--renderings", type=int, default=50)
    options = parser.parse_args()
    state = _state(LOADS[options.load])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(state))
    rendered_ms: dict[str, list[float]] = {name: [] for name in _RENDERERS}
    for _ in range(options.renderings):
        for name, render in _RENDERERS.items():
            begin_ns = time.process_time_ns()
            render(registry)
            rendered_ms[name].append((time.process_time_ns() - begin_ns) / 1e6)
    http = serve("127.0.0.1:0", state)
    print(json.dumps({"rendered_ms": rendered_ms, "address": http.address}), flush=True)
    sys.stdin.read()
    http.close()
    return 0


def _state(load: Load) -> PublishedState:
    """What an agent publishes after some seconds of a load."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
        replay = Replay(Path(directory), load)
        for _ in range(_SECONDS):
            replay.second()
        replay.close()
        return PublishedState(replay.snapshot, ready=True)


if __name__ == "__main__":
    raise SystemExit(main())
