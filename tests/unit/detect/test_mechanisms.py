"""Each label beside the twins that it must be told apart from, one gate at a time."""

from __future__ import annotations

import pytest

from pinchpoint.detect.labels import LABELS
from pinchpoint.detect.mechanisms import MECHANISMS, hot_layer
from pinchpoint.detect.verdict import Verdict
from pinchpoint.schema.events import StackEvent
from pinchpoint.schema.samples import CgroupCpuSample, ProcessSample, PythonSample
from tests.support.observations import (
    HEALTHY,
    Load,
    Scene,
    Stage,
    found,
    gate,
    known,
    labels,
    reason,
)
from tests.unit.detect.faults import (
    CALLS,
    DEAR,
    DOWNSTREAM,
    FAULTS,
    FEW_WORKERS,
    GIL,
    HOT,
    PREPROCESS,
    SATURATED,
    THROTTLED,
    WAITING,
)

SETTLED = 12
"""Seconds after which the window holds nothing of an earlier load."""


def after(load: Load, learned: Load | None = HEALTHY) -> Verdict:
    """The verdict once a load fills the window; `learned` is the usual one, None for none."""
    scene = known(learned) if learned else Scene()
    return scene.run(load, SETTLED)[-1]


@pytest.mark.parametrize("label", FAULTS)
def test_every_fault_is_named(label: str) -> None:
    """Each is the primary of its own load."""
    learned, fault = FAULTS[label]
    assert after(fault, learned).primary == label


@pytest.mark.parametrize("label", FAULTS)
def test_every_finding_carries_evidence_past_its_threshold(label: str) -> None:
    """Figures with their units, texts for people, a gain, a share, remedies."""
    learned, fault = FAULTS[label]
    finding = found(after(fault, learned), label)
    assert finding.summary.endswith(".")
    assert finding.label.remedies
    assert 0.0 < finding.share_ratio <= 1.0
    assert finding.gain.mean_ratio >= 0.15
    assert finding.gain.trusted
    assert finding.evidence
    for evidence in finding.evidence:
        assert evidence.text
        assert evidence.unit
        assert isinstance(evidence.value, float) or evidence.threshold is None
    measured = [
        e for e in finding.evidence if e.threshold is not None and isinstance(e.value, float)
    ]
    assert measured
    for evidence in measured:
        assert isinstance(evidence.value, float)
        assert evidence.threshold is not None
        below = label == "insufficient_parallelism" and evidence.name == "cpu_utilization_ratio"
        if below:
            assert evidence.value < evidence.threshold
        else:
            assert evidence.value >= evidence.threshold, evidence


def test_a_healthy_service_has_a_reason_why_no_label_holds() -> None:
    """Every mechanism says which gate it failed at."""
    verdict = known().run(HEALTHY, 1)[-1]
    told = {ruled_out.label.type for ruled_out in verdict.ruled_out}
    assert told == {label.type for label in LABELS}
    gates = {"signal", "mechanism", "materiality", "harm", "exclusion"}
    assert all(r.gate in gates and r.reason for r in verdict.ruled_out)
    assert len(verdict.ruled_out) == len(MECHANISMS)


# CPU quota


def test_waiting_for_a_cpu_without_a_quota_is_not_throttling() -> None:
    """A neighbour takes the CPU: the same waits, and no counter of the quota."""
    verdict = after(THROTTLED.but(quota_cores=None))
    assert gate(verdict, "cpu_quota_throttling") == "signal"


def test_waiting_for_a_cpu_without_the_control_group_is_not_throttling() -> None:
    """Where its files cannot be read nothing is claimed."""
    verdict = after(THROTTLED.but(without=frozenset({CgroupCpuSample})))
    assert gate(verdict, "cpu_quota_throttling") == "signal"


def test_a_quota_that_seldom_stops_the_server_is_no_bottleneck() -> None:
    """One period in ten is below the threshold."""
    verdict = after(THROTTLED.but(throttled_periods_ratio=0.1))
    assert gate(verdict, "cpu_quota_throttling") == "mechanism"
    assert "10 %" in reason(verdict, "cpu_quota_throttling")


def test_a_quota_that_stops_others_of_the_container_is_immaterial() -> None:
    """Periods are throttled, yet requests do not wait for a CPU."""
    verdict = after(THROTTLED.stage("forward", runqueue=0.2))
    assert gate(verdict, "cpu_quota_throttling") == "materiality"
    assert verdict.primary == "healthy"


# Interpreter lock


def test_blocked_time_with_heartbeats_on_time_is_not_the_lock() -> None:
    """Requests wait for something else."""
    verdict = after(GIL.but(late_beats_ratio=0.1))
    assert gate(verdict, "gil_contention") == "mechanism"


def test_without_heartbeats_the_lock_is_not_blamed() -> None:
    """Nothing else tells it from another wait."""
    verdict = after(GIL.but(without=frozenset({PythonSample})), learned=None)
    assert gate(verdict, "gil_contention") == "signal"


def test_a_collector_that_stops_the_interpreter_excludes_the_lock() -> None:
    """Its pauses make heartbeats late as well."""
    verdict = after(GIL.but(gc_share=0.2))
    assert gate(verdict, "gil_contention") == "exclusion"


def test_a_quota_that_stops_the_holder_of_the_lock_excludes_it() -> None:
    """The requests themselves hold it, and are stopped with it in hand."""
    load = GIL.but(
        python_cores=0.0, quota_cores=0.5, throttled_periods_ratio=0.8, throttled_share=0.6
    )
    verdict = after(load)
    assert gate(verdict, "gil_contention") == "exclusion"
    assert verdict.primary == "cpu_quota_throttling"


def test_a_contended_lock_that_requests_hardly_wait_for_is_immaterial() -> None:
    """The heartbeat suffers, the service does not."""
    verdict = after(GIL.stage("preprocess", blocked=0.2))
    assert gate(verdict, "gil_contention") == "materiality"
    assert verdict.primary == "healthy"


def test_the_thread_that_holds_the_lock_is_named() -> None:
    """Where another thread uses the interpreter."""
    assert "metrics-uploader" in found(after(GIL), "gil_contention").summary


# Waiting for others


def test_a_wait_that_no_stack_was_seen_in_is_not_downstream() -> None:
    """Without the stack sampler a wait has no cause."""
    verdict = after(DOWNSTREAM.but(without=frozenset({StackEvent})))
    assert gate(verdict, "downstream_wait") == "signal"
    assert "downstream_wait" not in labels(verdict)


def test_a_wait_for_a_lock_of_the_code_is_not_downstream() -> None:
    """The same blocked time, seen at an acquire."""
    verdict = after(DOWNSTREAM.but(looks=(("preprocess", "lock"),) * 4))
    assert gate(verdict, "downstream_wait") == "mechanism"


def test_answers_that_wait_for_the_lock_are_not_downstreams_fault() -> None:
    """Whoever holds the interpreter makes every call look slow."""
    verdict = after(DOWNSTREAM.but(late_beats_ratio=0.9, python_cores=1.0))
    assert gate(verdict, "downstream_wait") == "exclusion"


def test_a_dependency_that_is_as_slow_as_ever_does_no_harm() -> None:
    """It is the largest part of the service, and has always been."""
    verdict = after(WAITING, WAITING)
    assert gate(verdict, "downstream_wait") == "harm"
    assert verdict.primary == "healthy"


def test_without_a_reference_a_slow_dependency_with_headroom_does_no_harm() -> None:
    """At a cold start nobody knows whether 15 ms are many."""
    verdict = after(DOWNSTREAM, learned=None)
    assert gate(verdict, "downstream_wait") == "harm"


def test_the_line_that_waits_is_named() -> None:
    """As evidence and in the summary."""
    finding = found(after(DOWNSTREAM), "downstream_wait")
    assert "server.py:41" in finding.summary
    assert "server.py:41 prepare" in [e.value for e in finding.evidence]


# CPU around the forward and in it


@pytest.mark.parametrize("label", ["preprocess_cpu", "model_hot_layer"])
def test_without_a_forward_nothing_is_said_of_the_model_or_around_it(label: str) -> None:
    """A service without torch has neither."""
    load = HEALTHY.but(stages={"handler": Stage(cpu=20.0)})
    assert gate(after(load, learned=None), label) == "signal"


@pytest.mark.parametrize("label", ["preprocess_cpu", "model_hot_layer"])
def test_a_stage_that_is_as_dear_as_ever_does_no_harm(label: str) -> None:
    """The model is the largest part of a healthy service."""
    load = HEALTHY.stage("preprocess", cpu=6.0)
    assert gate(after(load, load), label) == "harm"


def test_a_small_stage_that_grew_is_not_worth_naming() -> None:
    """Twice a tenth of the service time is not the reason for anything."""
    load = HEALTHY.stage("preprocess", cpu=0.4)
    verdict = after(load.stage("preprocess", cpu=0.8), load)
    assert gate(verdict, "preprocess_cpu") == "mechanism"


def test_a_slower_cpu_is_not_the_work() -> None:
    """All stages take twice as long: the frequency or a neighbour, not the code."""
    load = HEALTHY.stage("preprocess", cpu=6.0)
    slow = load.stage("preprocess", cpu=12.0).stage("forward", cpu=12.0)
    verdict = after(slow, load)
    assert gate(verdict, "preprocess_cpu") == "harm"
    assert gate(verdict, "model_hot_layer") == "harm"


def test_only_the_stage_that_grew_is_named() -> None:
    """The forward is the larger one and as ever."""
    load = HEALTHY.stage("preprocess", cpu=4.0)
    assert labels(after(load.stage("preprocess", cpu=15.0), load)) == ("preprocess_cpu",)


def test_without_a_reference_a_dear_stage_is_named_when_there_is_no_headroom() -> None:
    """Utilization near one is harm by itself."""
    load = HEALTHY.but(rate=75.0, workers=2, cpus=2.0, layers={3: 12.0, 4: 5.0})
    verdict = after(load.stage("forward", cpu=22.0), learned=None)
    assert "model_hot_layer" in labels(verdict)


def test_without_a_reference_a_dear_stage_with_headroom_does_no_harm() -> None:
    """The twin: the same work with few requests."""
    load = HEALTHY.but(rate=10.0, workers=2, cpus=2.0, layers={3: 12.0, 4: 5.0})
    verdict = after(load.stage("forward", cpu=22.0), learned=None)
    assert gate(verdict, "model_hot_layer") == "harm"
    assert verdict.primary == "healthy"


def test_a_layer_that_has_most_of_the_forward_is_named() -> None:
    """The subtype says that the cost is concentrated."""
    finding = found(after(HOT), "model_hot_layer")
    assert finding.subtype == "concentrated"
    assert "layer3.0.conv1" in finding.summary


def test_a_forward_whose_layers_were_not_seen_is_named_all_the_same() -> None:
    """Without layers the cost counts as diffuse."""
    finding = found(after(HOT.but(layers={})), "model_hot_layer")
    assert finding.subtype == "diffuse"


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, None),
        ({"Net": {}}, None),
        ({"Net": {"a": 0.0}}, None),
        ({"Net": {"a.b.c": 6.0, "d": 4.0}}, ("Net", "a.b.c", 0.6)),
        ({"Net": {"a.b": 3.0, "a.c": 3.0, "d": 4.0}}, ("Net", "a", 0.6)),
        ({"Net": {"a": 3.0, "b": 2.0, "c": 2.0, "d": 3.0}}, ("Net", "a", 0.3)),
        ({"Small": {"a": 1.0}, "Net": {"b": 9.0}}, ("Net", "b", 1.0)),
    ],
)
def test_the_hot_layer_is_the_deepest_module_with_most_of_the_forward(
    layers: dict[str, dict[str, float]], expected: tuple[str, str, float] | None
) -> None:
    """A block whose parts share its cost is named itself; without any, the largest layer."""
    assert hot_layer(layers) == expected


# Queueing


def test_queueing_with_busy_cpus_is_no_want_of_workers() -> None:
    """More workers would only share the same CPUs."""
    verdict = after(SATURATED, DEAR)
    assert gate(verdict, "insufficient_parallelism") == "mechanism"
    assert verdict.primary == "queue_saturation"


def test_queueing_with_idle_cpus_is_no_saturation() -> None:
    """The twin."""
    verdict = after(FEW_WORKERS, WAITING)
    assert gate(verdict, "queue_saturation") == "mechanism"
    assert verdict.primary == "insufficient_parallelism"


@pytest.mark.parametrize("label", ["insufficient_parallelism", "queue_saturation"])
def test_without_queueing_no_label_of_queueing_holds(label: str) -> None:
    """A healthy service has free workers."""
    assert gate(known().run(HEALTHY, 1)[-1], label) == "mechanism"


@pytest.mark.parametrize(
    ("label", "load", "learned"),
    [
        ("insufficient_parallelism", FEW_WORKERS, WAITING),
        ("queue_saturation", SATURATED, DEAR),
    ],
)
def test_without_the_cpu_of_the_process_queueing_has_no_cause(
    label: str, load: Load, learned: Load
) -> None:
    """Idle or used up cannot be told."""
    verdict = after(load.but(without=frozenset({ProcessSample})), learned)
    assert gate(verdict, label) == "signal"


def test_workers_that_wait_for_the_lock_are_not_too_few() -> None:
    """More of them would wait for it too."""
    load = FEW_WORKERS.but(late_beats_ratio=0.9, python_cores=0.2)
    verdict = after(load, WAITING)
    assert gate(verdict, "insufficient_parallelism") == "exclusion"


def test_workers_that_wait_for_a_cpu_are_not_too_few() -> None:
    """The process leaves CPUs idle by its own account, and yet its threads cannot run."""
    load = FEW_WORKERS.but(rate=40.0).stage("forward", runqueue=8.0)
    verdict = after(load, WAITING)
    assert gate(verdict, "insufficient_parallelism") == "exclusion"


def test_requests_that_have_become_dear_are_not_too_many() -> None:
    """The same load saturates because each costs three times as much."""
    learned = HEALTHY.but(rate=75.0, workers=2)
    verdict = after(learned.stage("forward", cpu=24.0), learned)
    assert gate(verdict, "queue_saturation") == "exclusion"
    assert verdict.primary == "model_hot_layer"


def test_queueing_behind_a_slow_dependency_is_its_effect() -> None:
    """The dependency is primary; workers are held longer than usual, not too few."""
    verdict = after(WAITING.stage("preprocess", blocked=38.0), WAITING)
    assert verdict.primary == "downstream_wait"
    assert "insufficient_parallelism" not in labels(verdict)
    assert "hold their workers" in reason(verdict, "insufficient_parallelism")


def test_calls_alone_make_no_bottleneck_of_a_service_that_has_always_made_them() -> None:
    """Looks in client libraries with little time blocked stay below the threshold."""
    verdict = after(HEALTHY.but(looks=CALLS))
    assert gate(verdict, "downstream_wait") == "mechanism"
    assert verdict.primary == "healthy"


def test_preprocessing_is_told_by_its_place() -> None:
    """The line that burns is in the summary."""
    assert "server.py:41" in found(after(PREPROCESS), "preprocess_cpu").summary
