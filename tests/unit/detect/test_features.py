from __future__ import annotations

import pytest

from pinchpoint.detect.features import extract, quantile
from pinchpoint.detect.window import REQUESTS_MAX, counter_rate, increase
from pinchpoint.schema.events import LayerEvent, StageTime
from pinchpoint.schema.observations import Name, NameKind
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    MethodSample,
    ProcessSample,
    PythonSample,
    ServerSample,
    ThreadsSample,
)
from pinchpoint.schema.terms import CALL_TYPES
from tests.support.observations import SECOND_NS, request
from tests.unit.detect.windows import (
    BEGIN_NS,
    NOW_NS,
    beats,
    features_of,
    look,
    milliseconds,
    window,
)

SIGNAL_FIGURES = (
    "cpu_cores",
    "cpu_limit_cores",
    "cpu_utilization",
    "quota_cores",
    "throttled_periods_ratio",
    "throttled_share",
    "runqueue_share",
    "gil_late_ratio",
    "gc_share",
    "request_cores",
    "python_cores",
    "busiest_thread",
)


def cgroup(second: int, inode: float, **values: float) -> CgroupCpuSample:
    return CgroupCpuSample(BEGIN_NS + second * SECOND_NS, 0, inode=inode, **values)


def process(second: int, cpu_seconds: float, cpus: float = 2.0) -> ProcessSample:
    return ProcessSample(
        BEGIN_NS + second * SECOND_NS,
        0,
        cpu_user_ns=cpu_seconds * SECOND_NS,
        cpu_system_ns=0.0,
        effective_cpus=cpus,
    )


def threads(*values: float | None) -> list[ThreadsSample]:
    return [
        ThreadsSample(BEGIN_NS + i * SECOND_NS, 0, runqueue_ns=value)
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5),
        ([1.0, 2.0], 0.0, 1.0),
        ([1.0, 2.0], 1.0, 2.0),
    ],
)
def test_quantiles_are_interpolated(values: list[float], q: float, expected: float | None) -> None:
    """Between the two nearest; None of nothing."""
    assert quantile(values, q) == expected


def test_the_rate_of_nanoseconds_is_a_share() -> None:
    """Half a second of waiting a second."""
    assert counter_rate(threads(0.0, 5e8, 1e9), "runqueue_ns") == pytest.approx(0.5)


def test_the_rate_of_a_count_is_a_second() -> None:
    """Three switches in two seconds."""
    series = [ProcessSample(0, 0, threads=1.0), ProcessSample(2 * SECOND_NS, 0, threads=4.0)]
    assert counter_rate(series, "threads") == pytest.approx(1.5)


def test_readings_without_the_field_are_passed_over() -> None:
    """A source that could not say once is no reset."""
    assert counter_rate(threads(None, 0.0, None, 2e9, None), "runqueue_ns") == pytest.approx(1.0)
    assert increase(threads(None, 1.0, None, 4.0), "runqueue_ns") == 3.0


@pytest.mark.parametrize("values", [(), (None, None), (5.0,), (5.0, None), (9.0, 3.0)])
def test_what_cannot_be_told_has_no_rate_and_no_increase(
    values: tuple[float | None, ...],
) -> None:
    """Nothing, one reading, or a counter that began again behind the same key."""
    assert counter_rate(threads(*values), "runqueue_ns") is None
    assert increase(threads(*values), "runqueue_ns") is None


def test_readings_out_of_order_have_no_rate() -> None:
    """Time that runs backwards divides nothing."""
    assert counter_rate(threads(0.0, 1e9)[::-1], "runqueue_ns") is None
    same = [ThreadsSample(5, 0, runqueue_ns=1.0), ThreadsSample(5, 0, runqueue_ns=2.0)]
    assert counter_rate(same, "runqueue_ns") is None


def test_the_cpu_of_all_processes_is_summed_and_the_limit_is_not() -> None:
    """Two workers share the CPUs that both may use."""
    made = window()
    for source in (1, 2):
        made.add(source, process(0, 0.0))
        made.add(source, process(4, 2.0))
    made.advance(NOW_NS)
    features = extract(made)
    assert features.cpu_cores == pytest.approx(1.0)
    assert features.cpu_limit_cores == 2.0
    assert features.cpu_utilization == pytest.approx(0.5)


def test_the_smaller_of_affinity_and_quota_is_the_limit() -> None:
    """Half a core of quota on two CPUs is half a core."""
    quota = [cgroup(0, 1.0, limit_cores=0.5), cgroup(4, 1.0, limit_cores=0.5)]
    samples = [process(0, 0.0), process(4, 1.0), *quota]
    features = features_of({"forward": milliseconds(1)}, samples=samples)
    assert features.cpu_limit_cores == 0.5
    assert features.cpu_utilization == pytest.approx(0.5)


def test_the_container_is_read_once_however_many_workers_report_it() -> None:
    """Its periods are not added up."""
    made = window()
    for source in (1, 2):
        made.add(source, cgroup(0, 5.0, periods=0, throttled_periods=0, limit_cores=1.0))
        made.add(source, cgroup(5, 5.0, periods=50, throttled_periods=20, limit_cores=1.0))
    made.advance(NOW_NS)
    features = extract(made)
    assert features.throttled_periods == 20
    assert features.throttled_periods_ratio == pytest.approx(0.4)


def test_a_move_to_another_control_group_begins_anew() -> None:
    """The counters of two groups have nothing to do with each other."""
    samples = [
        cgroup(0, 5.0, periods=900, throttled_periods=900, limit_cores=1.0),
        cgroup(1, 6.0, periods=100, throttled_periods=10, limit_cores=1.0),
        cgroup(5, 6.0, periods=140, throttled_periods=20, limit_cores=1.0),
    ]
    features = features_of({"forward": milliseconds(1)}, samples=samples)
    assert features.throttled_periods_ratio == pytest.approx(0.25)


def test_a_container_without_a_quota_has_no_throttling() -> None:
    """Its counters may be there all the same."""
    samples = [cgroup(0, 5.0, periods=0, throttled_periods=0), cgroup(5, 5.0, periods=50)]
    features = features_of({"forward": milliseconds(1)}, samples=samples)
    assert features.quota_cores is None
    assert features.throttled_periods_ratio is None


def test_few_scheduler_periods_have_no_ratio() -> None:
    """An idle container has a period now and then."""
    samples = [
        cgroup(0, 5.0, periods=0, throttled_periods=0, limit_cores=1.0),
        cgroup(5, 5.0, periods=4, throttled_periods=4, limit_cores=1.0),
    ]
    features = features_of({"forward": milliseconds(1)}, samples=samples)
    assert features.quota_cores == 1.0
    assert features.throttled_periods_ratio is None


def test_late_heartbeats_are_pooled_over_processes() -> None:
    """One of two processes is contended."""
    made = window()
    for source, late in ((1, 0.8), (2, 0.0)):
        for sample in beats(late):
            made.add(source, sample)
    made.advance(NOW_NS)
    assert extract(made).gil_late_ratio == pytest.approx(0.4)


def test_few_heartbeats_say_nothing() -> None:
    """Less than two seconds of them."""
    samples = [
        PythonSample(BEGIN_NS, 0, beats=0.0, late_beats=0.0),
        PythonSample(BEGIN_NS + SECOND_NS, 0, beats=10.0, late_beats=10.0),
    ]
    assert features_of({}, samples=samples).gil_late_ratio is None


def test_nothing_read_is_none_and_not_zero() -> None:
    """Absent is absent in every figure of a signal."""
    features = features_of({"forward": milliseconds(1)})
    for name in SIGNAL_FIGURES:
        assert getattr(features, name) is None, name


def test_the_busiest_thread_is_named() -> None:
    """The one with most CPU of those that serve no request."""
    made = window(Name(8, NameKind.THREAD, 0, "logger"), Name(9, NameKind.THREAD, 0, "trainer"))
    for instance, cores in ((8, 0.1), (9, 0.7)):
        made.add(1, BusyThreadSample(BEGIN_NS, instance, cpu_ns=0.0))
        made.add(1, BusyThreadSample(BEGIN_NS + SECOND_NS, instance, cpu_ns=cores * SECOND_NS))
    made.advance(NOW_NS)
    busiest = extract(made).busiest_thread
    assert busiest is not None
    assert busiest[0] == "trainer"
    assert busiest[1] == pytest.approx(0.7)


def test_servers_and_methods_of_all_sources_are_summed() -> None:
    """Workers and what is in flight add up; the oldest request is the oldest of all."""
    made = window()
    for source, age in ((1, 2), (2, 5)):
        made.add(
            source,
            ServerSample(
                BEGIN_NS,
                3,
                workers=4.0,
                workers_busy=2.0,
                queued=1.0,
                oldest_age_ns=float(age * SECOND_NS),
            ),
        )
        made.add(source, MethodSample(BEGIN_NS, 1, in_flight=3.0))
    made.advance(NOW_NS)
    traffic = extract(made).traffic
    assert (traffic.workers, traffic.workers_busy, traffic.queued) == (8, 4.0, 2)
    assert traffic.in_flight == 6
    assert traffic.oldest_request_age_seconds == 5.0


def test_stage_means_are_weighted_by_what_each_sample_stands_for() -> None:
    """A sample that stands for three counts three times."""
    made = window()
    for cpu, weight in ((4, 1.0), (8, 3.0)):
        _, detail = request(BEGIN_NS, {"forward": milliseconds(cpu)}, weight=weight)
        made.add(1, detail)
    made.advance(NOW_NS)
    features = extract(made)
    assert features.weight == 4.0
    assert features.stages["forward"].cpu_seconds == pytest.approx(0.007)
    assert features.latency_seconds == pytest.approx(0.007)


def test_stages_that_were_not_seen_are_absent() -> None:
    """So that a mechanism can say that it had no signal."""
    assert set(features_of({"handler": milliseconds(1)}).stages) == {"handler"}


def test_the_place_seen_most_often_is_named_and_unknown_places_are_not() -> None:
    """Locations are those of the stages and categories that are asked for."""
    made = window(Name(5, NameKind.LOCATION, 0, "a.py:1"), Name(6, NameKind.LOCATION, 0, "b.py:2"))
    for location, count in ((5, 2), (6, 3), (99, 9)):
        for _ in range(count):
            made.add(1, look("preprocess", "client", location))
    made.add(1, look("forward", "client", 5))
    made.advance(NOW_NS)
    features = extract(made)
    assert features.top_site(("preprocess",), ("client",)) == "b.py:2"
    assert features.top_site(("forward",), ("client",)) == "a.py:1"
    assert features.top_site(("send",), ("client",)) == ""


def test_layers_add_up_over_the_sampled_forwards() -> None:
    """Own CPU by model and layer."""
    made = window(Name(2, NameKind.MODEL, 0, "Net"), Name(3, NameKind.LAYER, 0, "conv"))
    for sample_id in (1, 2):
        made.add(1, LayerEvent(2, 3, 1, sample_id, BEGIN_NS, 4_000_000, 9_000_000))
    made.advance(NOW_NS)
    assert extract(made).layers == {"Net": {"conv": pytest.approx(0.008)}}


@pytest.mark.parametrize("call_type", range(len(CALL_TYPES)), ids=CALL_TYPES)
def test_the_window_has_requests_with_one_response(call_type: int) -> None:
    """RPCs and HTTP alike; a stream lasts as long as its client likes."""
    made = window(Name(1, NameKind.METHOD, call_type, "a name"))
    event, detail = request(NOW_NS, {"forward": milliseconds(1)}, call_type=call_type)
    made.add(1, event)
    made.add(1, detail)
    made.add(1, look("forward", "socket"))
    made.add(1, MethodSample(NOW_NS, 1, in_flight=3.0))
    one = int(CALL_TYPES[call_type] in ("unary", "http"))
    assert (len(made.requests), len(made.details), len(made.looks)) == (one, one, one)
    assert extract(made).traffic.in_flight == 3 * one


def test_the_window_slides() -> None:
    """What ended more than ten seconds ago no longer counts."""
    made = window()
    for age in (15, 5):
        event, detail = request(NOW_NS - age * SECOND_NS, {"forward": milliseconds(1)})
        made.add(1, event)
        made.add(1, detail)
    made.advance(NOW_NS)
    assert (len(made.requests), len(made.details)) == (1, 1)
    made.advance(NOW_NS + 6 * SECOND_NS)
    assert (len(made.requests), len(made.details)) == (0, 0)


def test_the_window_holds_a_bounded_number_of_requests() -> None:
    """The newest, however many come before the next tick."""
    made = window()
    event, _ = request(BEGIN_NS, {"forward": milliseconds(1)})
    for number in range(REQUESTS_MAX + 10):
        made.add(1, event._replace(batch_size=number))
    assert len(made.requests) == REQUESTS_MAX
    assert made.requests[-1].event.batch_size == REQUESTS_MAX + 9


def test_a_sources_times_are_moved_to_the_readers_clock() -> None:
    """A process in another time namespace is seen in the same window."""
    made = window()
    made.open_source(1, 90 * SECOND_NS)
    event, _ = request(5 * SECOND_NS, {"queue": StageTime(0, 0, 0)})
    made.add(1, event)
    made.advance(NOW_NS)
    assert made.requests[0].end_ns == 95 * SECOND_NS


def test_a_closed_source_no_longer_speaks_for_the_service() -> None:
    """Its gauges end; the requests that it has served stay in the window."""
    made = window()
    event, _ = request(BEGIN_NS, {"forward": milliseconds(1)})
    made.add(1, event)
    made.add(1, MethodSample(BEGIN_NS, 1, in_flight=3.0))
    made.close_source(1)
    made.advance(NOW_NS)
    traffic = extract(made).traffic
    assert traffic.requests == 1
    assert traffic.in_flight == 0
