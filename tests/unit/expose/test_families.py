from __future__ import annotations

import math
import re
from functools import cache

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pinchpoint.detect.verdict import Verdict
from pinchpoint.expose.collect import SnapshotCollector, render
from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.family import UNITS, Family
from pinchpoint.expose.state import PublishedState
from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import StageTime
from pinchpoint.schema.observations import Observation
from pinchpoint.schema.samples import (
    SAMPLE_TYPES,
    LoopSample,
    ProbeSample,
    SignalSample,
    ThreadsSample,
)
from pinchpoint.schema.terms import GRPC_TYPES, HTTP
from pinchpoint.schema.wire import sample_fields
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.observations import (
    HEALTHY,
    METHOD,
    Scene,
    known,
    others,
    request,
    watch,
)
from tests.unit.detect.faults import HOT, THROTTLED

STANDARD = {
    "grpc_server_started",
    "grpc_server_handled",
    "grpc_server_msg_received",
    "grpc_server_msg_sent",
    "grpc_server_handling_seconds",
    "http_server_request_duration_seconds",
    "http_server_active_requests",
}
"""Names that existing dashboards use; everything else is ours."""

NOT_BASE = re.compile(
    r"_(ms|us|ns|milliseconds|microseconds|nanoseconds|minutes|hours|kb|mb|gb|kib|mib|gib|"
    r"kilobytes|megabytes|percent|percentage|mhz|mj|mw)(_|$)"
)


def text(snapshot: Snapshot) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(PublishedState(snapshot)))
    return generate_latest(registry).decode()


def samples(snapshot: Snapshot) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for metric in render(snapshot):
        for sample in metric.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def shown(scene: Scene) -> Snapshot:
    return scene.pipeline.snapshot(AgentFacts(resident_bytes=1))


@cache
def everything() -> Snapshot:
    """A snapshot of a scene that has been fed every kind of record, samples in full."""
    scene = known()
    scene.run(HOT, 12)
    watch(scene.pipeline, (Observation(1, r) for r in others(scene.service.now_ns)))
    for value in (1.0, 2.0):
        for sample_type in SAMPLE_TYPES:
            values = dict.fromkeys(sample_fields(sample_type), value)
            for instance in (0, METHOD.name_id):
                sample = sample_type(scene.service.now_ns, instance, **values)
                scene.pipeline.feed(Observation(1, sample))
    return shown(scene)


NAMES = [family.name for family in FAMILIES]


def test_names_are_unique() -> None:
    """A registry refuses two families of one name."""
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_every_family_keeps_the_conventions(family: Family) -> None:
    """One prefix, base units, no suffix that the format adds by itself, help in a sentence."""
    assert family.name.startswith("pinchpoint_") or family.name in STANDARD
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", family.name)
    assert not NOT_BASE.search(family.name)
    assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
    assert family.kind in ("counter", "gauge", "histogram")
    assert family.help.endswith(".")
    assert family.help[0].isupper() or family.help[0].isdigit()
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", label) for label in family.labels)
    assert len(set(family.labels)) == len(family.labels)
    assert not {"le", "quantile", "job", "instance", "pod"} & set(family.labels)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_a_unit_ends_the_name(family: Family) -> None:
    """Wherever one is in it."""
    words = family.name.removesuffix(family.unit).split("_")
    assert set(words).isdisjoint(UNITS)


def test_info_families_are_gauges_that_are_one() -> None:
    """Joined on, never summed."""
    for family in FAMILIES:
        if family.name.endswith("_info"):
            assert family.kind == "gauge"
            assert all(value == 1.0 for _, value in family.points(everything()))


def test_every_family_has_a_series_once_everything_is_known() -> None:
    """A family without a source would be a promise that is never kept."""
    snapshot = everything()
    assert [family.name for family in FAMILIES if not list(family.points(snapshot))] == []


def test_points_have_a_value_for_every_label_and_no_series_twice() -> None:
    """Prometheus rejects a scrape that says one thing twice."""
    snapshot = everything()
    for family in FAMILIES:
        points = list(family.points(snapshot))
        assert all(len(labels) == len(family.labels) for labels, _ in points), family.name
        assert all(isinstance(value, str) for labels, _ in points for value in labels)
        assert len({labels for labels, _ in points}) == len(points), family.name


def test_no_series_is_exported_twice_when_one_name_has_several_types() -> None:
    """Calls of unknown methods come in all four types; their latencies share a histogram."""
    pipeline = Pipeline()
    for call_type in range(len(GRPC_TYPES)):
        event, _ = request(
            0, {"handler": StageTime(1_000_000, 0, 0)}, call_type=call_type, method_id=99
        )
        pipeline.feed(Observation(1, event))
    snapshot = pipeline.snapshot(AgentFacts())
    found = samples(snapshot)
    assert len(found["grpc_server_started_total"]) == 4
    assert [value for _, value in found["pinchpoint_request_seconds_count"]] == [4.0]
    lines = [line.rsplit(" ", 1)[0] for line in text(snapshot).splitlines() if line[0] != "#"]
    assert len(set(lines)) == len(lines)


def test_http_requests_are_shown_by_route_and_beside_rpcs() -> None:
    """Under OpenTelemetry's names, and by one name of our own; never as RPCs."""
    pipeline = Pipeline()
    watch(pipeline, (Observation(1, record) for record in others(0)))
    found = samples(pipeline.snapshot(AgentFacts()))
    route = {"http_request_method": "GET", "http_route": "/items/{item_id}"}
    durations = found["http_server_request_duration_seconds_count"]
    assert [({**labels}, value) for labels, value in durations] == [
        ({**route, "http_response_status_code": status}, value)
        for status, value in (("", 1.0), ("200", 2.0), ("404", 1.0))
    ]
    assert found["http_server_active_requests"] == [(route, 0.0)]
    ours = {"grpc_service": "http", "grpc_method": "GET /items/{item_id}"}
    for name in ("pinchpoint_request_seconds_count", "pinchpoint_request_queue_seconds_count"):
        assert (ours, 4.0) in found[name]
    for name, points in found.items():
        assert not name.startswith("grpc_") or all(
            labels["grpc_service"] != "http" for labels, _ in points
        )


def test_an_unknown_route_is_one_word_beside_the_rpcs() -> None:
    """As an unknown method is."""
    pipeline = Pipeline()
    event, _ = request(0, {}, call_type=HTTP, status=404, method_id=99)
    pipeline.feed(Observation(1, event))
    ((labels, _),) = samples(pipeline.snapshot(AgentFacts()))["pinchpoint_request_seconds_count"]
    assert labels == {"grpc_service": "http", "grpc_method": "_OTHER"}


def test_a_core_that_cannot_be_read_has_no_series() -> None:
    """What was abandoned is known all the same, as far as it came to Python."""
    found = samples(shown(known()))
    assert "pinchpoint_requests_core_waiting" not in found
    assert "pinchpoint_request_core_wait_seconds_total" not in found
    abandoned = {labels["where"] for labels, _ in found["pinchpoint_requests_abandoned_total"]}
    assert abandoned == {"queue", "core"}


def test_the_lag_of_event_loops_is_a_histogram() -> None:
    """Of the buckets that the loops counted themselves."""
    scene = Scene()
    for beats in (0.0, 1.0):
        sample = LoopSample(
            0, 0, beats=10 * beats, lag_ns=9e9 * beats, lag_2=9 * beats, lag_16=beats
        )
        scene.pipeline.feed(Observation(1, sample))
    found = samples(shown(scene))
    buckets = {labels["le"]: v for labels, v in found["pinchpoint_event_loop_lag_seconds_bucket"]}
    assert (buckets["0.00025"], buckets["0.0005"], buckets["10.0"], buckets["+Inf"]) == (
        0,
        9,
        9,
        10,
    )
    assert found["pinchpoint_event_loop_lag_seconds_sum"] == [({}, 9.0)]


@pytest.mark.parametrize(("whole", "seconds"), [(None, 2.0), (3e9, 3.0)])
def test_the_probes_cpu_is_that_of_its_threads_unless_all_of_it_is_known(
    whole: float | None, seconds: float
) -> None:
    """Hooks are calibrated; where they are not, threads are measured."""
    scene = Scene()
    for share in (0, 1):
        threads = ThreadsSample(0, 0, probe_cpu_ns=2e9 * share)
        probe = ProbeSample(0, 0, cpu_ns=None if whole is None else whole * share)
        for sample in (threads, probe):
            scene.pipeline.feed(Observation(1, sample))
    assert samples(shown(scene))["pinchpoint_probe_cpu_seconds_total"] == [({}, seconds)]


def test_absent_is_absent() -> None:
    """An agent that has seen nothing tells of itself, of the verdict, and of no server."""
    facts = AgentFacts(resident_bytes=1)
    names = set(samples(Snapshot(verdict=Verdict(0, 0), agent=facts)))
    assert {name.removesuffix("_total") for name in names} == {
        "pinchpoint_bottleneck_state",
        "pinchpoint_bottleneck_primary_info",
        "pinchpoint_build_info",
        "pinchpoint_ring_records",
        "pinchpoint_ring_errors",
        "pinchpoint_rings",
        "pinchpoint_agent_cpu_seconds",
        "pinchpoint_agent_resident_memory_bytes",
        "pinchpoint_agent_start_time_seconds",
        "pinchpoint_agent_tick_lateness_seconds",
        "pinchpoint_config_last_reload_successful",
        "pinchpoint_config_last_reload_success_timestamp_seconds",
    }


def test_no_value_is_infinite_or_not_a_number() -> None:
    """An unknown value is no series."""
    for snapshot in (everything(), shown(Scene()), shown(known())):
        for name, points in samples(snapshot).items():
            assert all(math.isfinite(value) for _, value in points), name


def test_exactly_one_primary_is_shown() -> None:
    """So that joins on it stay one to one, whatever the verdict."""
    scene = Scene()
    for load, seconds in ((HEALTHY, 20), (THROTTLED, 12), (HEALTHY.but(stuck=True), 14)):
        for observation in scene.service.run(load, seconds):
            if scene.pipeline.feed(observation) is None:
                continue
            snapshot = shown(scene)
            ((labels, value),) = samples(snapshot)["pinchpoint_bottleneck_primary_info"]
            assert value == 1.0
            assert labels["type"] == snapshot.verdict.primary
            assert bool(labels["owner"]) == bool(snapshot.verdict.active)


def test_every_type_has_its_state_whether_active_or_not() -> None:
    """Zero says that it was looked for."""
    scene = known()
    scene.run(THROTTLED, 12)
    states = {
        labels["type"]: value
        for labels, value in samples(shown(scene))["pinchpoint_bottleneck_state"]
    }
    assert states.pop("cpu_quota_throttling") == 1.0
    assert set(states.values()) == {0.0}


def test_a_gain_that_the_replay_does_not_trust_is_not_shown() -> None:
    """The verdict as JSON says that it is not."""
    scene = known()
    scene.run(THROTTLED, 12)
    assert "pinchpoint_whatif_latency_reduction_ratio" in samples(shown(scene))
    watch(scene.pipeline, [scene.service.tick()])
    for active in scene.pipeline.snapshot(AgentFacts()).verdict.active:
        object.__setattr__(active.found, "gain", active.found.gain._replace(trusted=False))
    assert "pinchpoint_whatif_latency_reduction_ratio" not in samples(shown(scene))


def test_buckets_are_cumulative_and_end_with_all() -> None:
    """As the format wants them."""
    found = samples(shown(known()))
    buckets = found["pinchpoint_request_seconds_bucket"]
    values = [value for _, value in buckets]
    assert values == sorted(values)
    assert buckets[-1][0]["le"] == "+Inf"
    assert values[-1] == found["pinchpoint_request_seconds_count"][0][1]


def test_label_values_are_escaped() -> None:
    """Whatever bytes a name holds, the exposition stays one line a series."""
    pipeline = Pipeline()
    pipeline.feed(Observation(1, METHOD._replace(text='/a."b\\c\nd"/M')))
    lines = text(pipeline.snapshot(AgentFacts())).splitlines()
    assert any('grpc_service="a.\\"b\\\\c\\nd\\""' in line for line in lines)


def test_signals_are_shown_with_what_they_are() -> None:
    """One that cannot be read is a zero, not an absence."""
    scene = known()
    scene.pipeline.feed(Observation(1, SignalSample(0, METHOD.name_id, available=0.0)))
    assert [v for _, v in samples(shown(scene))["pinchpoint_signal_available"]] == [0.0]
