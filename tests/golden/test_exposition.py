"""The whole exposition of a service, as a scraper sees it. `pytest --update-golden` rewrites it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pinchpoint import __version__
from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.state import PublishedState
from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import FLAG_REJECTED, StageTime
from pinchpoint.schema.observations import Name, NameKind, Observation, RecordsLost
from pinchpoint.schema.samples import (
    CgroupMemorySample,
    LoopSample,
    ModelSample,
    PressureSample,
    ProbeSample,
    SamplerSample,
    ServerSample,
    SignalSample,
)
from pinchpoint.schema.terms import GRPC_CODES
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.observations import (
    COLD_LAYER,
    HEALTHY,
    HOT_LAYER,
    MODEL,
    SECOND_NS,
    Service,
    others,
    request,
    watch,
)

GOLDEN = Path(__file__).parent / "exposition" / "service.prom"

FACTS = AgentFacts(
    cpu_seconds=1.25,
    resident_bytes=30_000_000,
    start_wall_seconds=1_800_000_000.0,
    tick_lateness_seconds=0.0005,
    rings_attached=1,
)

EXTRA = tuple(
    Name(20 + number, NameKind.OTHER, 0, text)
    for number, text in enumerate(
        (
            "container",
            "grpc_server",
            "stacks",
            "gpu",
            "no NVIDIA driver was found",
            "cpu",
            "float32",
            "grpc.aio",
        )
    )
)
CONTAINER, PART, SAMPLER, SIGNAL, REASON, DEVICE, DTYPE, AIO = (name.name_id for name in EXTRA)

LOAD = HEALTHY.but(rate=25.0, quota_cores=0.5).but(
    layers={HOT_LAYER.name_id: 3.0, COLD_LAYER.name_id: 1.0}
)
THROTTLED = LOAD.stage("forward", runqueue=12).but(throttled_periods_ratio=0.8, throttled_share=0.6)


def service() -> Snapshot:
    """A service that is healthy, is restarted, and runs into its CPU quota."""
    pipeline = Pipeline()
    first = Service(source=1, seed=1)
    watch(pipeline, first.open())
    watch(pipeline, first.run(LOAD, 15))
    watch(pipeline, first.close())
    second = Service(source=2, seed=2)
    second.now_ns = first.now_ns
    watch(pipeline, second.open())
    for name in EXTRA:
        pipeline.feed(Observation(2, name))
    watch(pipeline, second.run(LOAD, 5))
    add_the_rest(pipeline, second.now_ns)
    watch(pipeline, second.run(THROTTLED, 8))
    return pipeline.snapshot(FACTS)


def add_the_rest(pipeline: Pipeline, now_ns: int) -> None:
    """What a load does not bring with it."""
    unknown, _ = request(
        now_ns,
        {"queue": StageTime(0, 0, 0)},
        status=GRPC_CODES.index("UNIMPLEMENTED"),
        method_id=99,
    )
    pipeline.feed(Observation(2, unknown._replace(flags=FLAG_REJECTED)))
    pipeline.feed(Observation(2, RecordsLost(now_ns, "overrun", 7)))
    watch(pipeline, (Observation(2, record) for record in others(now_ns)))
    for second in range(2):
        at_ns = now_ns + second * SECOND_NS
        for sample in (
            CgroupMemorySample(at_ns, 0, 9.0, 6e8, 5e8, 1e9, 0.0),
            PressureSample(at_ns, CONTAINER, cpu_some_ns=2e8 * second, io_full_ns=0.0),
            ModelSample(at_ns, MODEL.name_id, 11_689_512.0, 46_758_048.0, DTYPE, DEVICE, 0.0),
            ProbeSample(at_ns, PART, errors=0.0, enabled=1.0),
            ProbeSample(at_ns, 0, None, None, 1.0, 2e6 * second, 1_500_000.0, 0.5),
            LoopSample(at_ns, 0, beats=10.0 * second, lag_ns=9e6 * second, lag_3=9.0 * second),
            ServerSample(
                at_ns,
                AIO,
                in_flight=2.0,
                core_waiting=3.0,
                core_wait_ns=4e8 * second,
                core_abandoned=2.0 * second,
            ),
            SamplerSample(at_ns, SAMPLER, duration_ns=250_000.0, errors=0.0),
            SignalSample(at_ns, SIGNAL, available=0.0, reason_id=float(REASON)),
        ):
            pipeline.feed(Observation(2, sample))


def exposition(snapshot: Snapshot) -> str:
    """The text of a scrape, its values rounded: versions of Python differ in the last digits."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(PublishedState(snapshot)))
    text = generate_latest(registry).decode().replace(f'version="{__version__}"', 'version="X"')
    return re.sub(r"(?m)^(?!#)(.*) (\S+)$", lambda m: f"{m[1]} {rounded(float(m[2]))}", text)


def rounded(value: float) -> str:
    return f"{value if abs(value) > 1e-9 else 0.0:.12g}"


def test_the_exposition_of_a_service_is_as_committed(pytestconfig: pytest.Config) -> None:
    """Every name, label, help text and value; a change of any shows in review."""
    text = exposition(service())
    if pytestconfig.getoption("--update-golden"):
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


def test_promtool_has_nothing_to_say_about_the_exposition() -> None:
    """Prometheus' own linter: names, units, types, help."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing: run scripts/system-packages"
        pytest.skip("promtool is not installed: scripts/system-packages installs it")
    with GOLDEN.open("rb") as text:
        checked = subprocess.run(
            [promtool, "check", "metrics"], stdin=text, capture_output=True, check=False
        )
    assert (checked.returncode, checked.stderr + checked.stdout) == (0, b"")
