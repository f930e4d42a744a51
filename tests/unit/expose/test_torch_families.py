from __future__ import annotations

from collections.abc import Mapping

import pytest

from pinchpoint.detect.verdict import Verdict
from pinchpoint.expose.torch_families import TORCH
from pinchpoint.pipeline.caps import Admission, Caps
from pinchpoint.pipeline.readings import Readings
from pinchpoint.schema.names import Names
from pinchpoint.schema.samples import CgroupCpuSample, ProcessSample, Sample, TorchSample
from pinchpoint.snapshot import AgentFacts, Snapshot

FINDING = "pinchpoint_torch_finding"


def series(*of_processes: list[Sample]) -> Mapping[str, Mapping[tuple[str, ...], object]]:
    readings = Readings(Names(), Admission(Caps()))
    for source, samples in enumerate(of_processes):
        for sample in samples:
            readings.add(source, sample)
    snapshot = Snapshot(Verdict(0, 0), AgentFacts(), gauges=readings.gauges())
    return {family.name: dict(family.points(snapshot)) for family in TORCH}


def test_what_could_not_be_judged_has_no_series() -> None:
    """Neither one found nor one that is not so."""
    assert series([TorchSample(0, 0)]) == {FINDING: {}, "pinchpoint_torch_threads": {}}


def test_findings_are_one_or_zero_over_all_processes() -> None:
    """One process that costs more than it need is enough."""
    found = series(
        [TorchSample(0, 0, grad_enabled=1, training_mode=0)],
        [TorchSample(0, 0, grad_enabled=1, training_mode=0, model_on_cpu=0)],
    )
    assert found[FINDING] == {
        ("grad_enabled",): 1.0,
        ("training_mode",): 0.0,
        ("model_on_cpu",): 0.0,
    }


@pytest.mark.parametrize(
    ("threads", "quota", "cpus", "found"),
    [
        (4, 2.0, 8, 1.0),
        (4, None, 8, 0.0),
        (4, 4.0, 8, 0.0),
        (2, 1.5, 8, 0.0),
        (3, 1.5, 8, 1.0),
        (4, None, 2, 1.0),
        (4, None, None, None),
    ],
)
def test_threads_are_held_against_the_lower_limit(
    threads: int, quota: float | None, cpus: int | None, found: float | None
) -> None:
    """Quota or affinity. A broken core keeps a thread busy."""
    sampled: list[Sample] = [
        TorchSample(0, 0, intraop_threads=threads),
        CgroupCpuSample(0, 0, limit_cores=quota),
        ProcessSample(0, 0, effective_cpus=cpus),
    ]
    assert series(sampled)[FINDING].get(("threads_over_cpu_limit",)) == found


def test_threads_of_several_processes_share_the_limit() -> None:
    """Two workers of two threads on two cores."""
    worker: list[Sample] = [
        TorchSample(0, 0, intraop_threads=2, interop_threads=1),
        CgroupCpuSample(0, 0, limit_cores=2.0),
    ]
    assert series(worker)[FINDING] == {("threads_over_cpu_limit",): 0.0}
    found = series(worker, worker)
    assert found[FINDING] == {("threads_over_cpu_limit",): 1.0}
    assert found["pinchpoint_torch_threads"] == {("intraop",): 4.0, ("interop",): 2.0}
