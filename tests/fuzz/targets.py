"""What is fuzzed: the agent on files that somebody else wrote. Whatever their bytes, it ends in a
clear error or in losses, and what it then exposes can be scraped."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from pinchpoint.dump import Dump
from pinchpoint.errors import UnreadableError
from pinchpoint.expose.api import verdict_json
from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.negotiate import DEFAULT_ESCAPING
from pinchpoint.expose.protobuf import encode
from pinchpoint.expose.state import PublishedState
from pinchpoint.pipeline import Pipeline
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.recording import Recording
from pinchpoint.ring.layout import ANCHOR, ANCHOR_OFFSET, HEADER_BYTES, RingError
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.observations import Observation, Tick
from pinchpoint.sidecar.source import RingSource
from pinchpoint.snapshot import AgentFacts

FILE = Path(f"/proc/self/fd/{os.memfd_create('input')}")
"""Written for every input; in memory, and gone with the process."""

HEADER_USED_BYTES = ANCHOR_OFFSET + ANCHOR.size
"""The rest of the header's page is not read: an input leaves it out."""

OPTIONS = PipelineOptions(native_histograms=True, stage_histograms=True)
"""Everything that can be exposed."""

NOW = Anchor(10_000_000_000, 1_700_000_000_000_000_000)
SECOND_NS = 1_000_000_000
TICKS = 12
"""Seconds after the last record: longer than the detector's window."""


def ring(data: bytes) -> None:
    """A ring: its header without the unused part, then its segments."""
    header = data[:HEADER_USED_BYTES].ljust(HEADER_BYTES, b"\0")
    FILE.write_bytes(header + data[HEADER_USED_BYTES:])
    try:
        source = RingSource(1, FILE, from_start=True)
    except RingError:
        return
    try:
        arrivals = [source.opened(NOW), *source.poll(NOW.monotonic_ns)]
        arrivals += source.drain(NOW.monotonic_ns)
        arrivals.append(source.closed(NOW.monotonic_ns))
    except RingError:
        return
    finally:
        source.close()
    _observe(arrival.observation for arrival in arrivals)


def recording(data: bytes) -> None:
    """A recording, whole."""
    FILE.write_bytes(data)
    observations: list[Observation] = []
    try:
        observations.extend(Recording(FILE))
    except UnreadableError:
        pass  # what was read before the damage is kept
    _observe(observations)


TARGETS: dict[str, Callable[[bytes], None]] = {"ring": ring, "recording": recording}


def unpacked(target: str, file: bytes) -> bytes:
    """A real file as an input of its target."""
    return file[:HEADER_USED_BYTES] + file[HEADER_BYTES:] if target == "ring" else file


def _observe(observations: Iterable[Observation]) -> None:
    pipeline, dump = Pipeline(OPTIONS), Dump()
    for observation in observations:
        assert "\n" not in dump.line(observation)
        pipeline.feed(observation)
    for second in range(TICKS):
        elapsed_ns = second * SECOND_NS
        tick = Tick(NOW.monotonic_ns + elapsed_ns, NOW.wall_ns + elapsed_ns)
        pipeline.feed(Observation(0, tick))
    _scrape(pipeline)


def _scrape(pipeline: Pipeline) -> None:
    snapshot = pipeline.snapshot(AgentFacts())
    verdict_json(snapshot)
    collector = SnapshotCollector(PublishedState(snapshot))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    generate_latest(registry).decode()
    openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    encode(collector.filled(), DEFAULT_ESCAPING)
    samples = [sample for family in collector.collect() for sample in family.samples]
    assert not [sample for sample in samples if math.isnan(sample.value)]
    series = {(sample.name, *sorted(sample.labels.items())) for sample in samples}
    assert len(series) == len(samples)
