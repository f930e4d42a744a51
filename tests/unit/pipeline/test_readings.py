from __future__ import annotations

from itertools import permutations

import pytest

from pinchpoint.pipeline.caps import Admission, Caps
from pinchpoint.pipeline.readings import Readings
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Name, NameKind
from pinchpoint.schema.samples import (
    CgroupCpuSample,
    GpuSample,
    GpuXidSample,
    HostSample,
    LoopSample,
    ModelSample,
    PressureSample,
    ProbeSample,
    ProcessSample,
    SamplerSample,
    ServerSample,
    SignalSample,
    TorchMemorySample,
)
from pinchpoint.snapshot import GpuFacts

CAPS = Caps(readings=7)

CPU = ("ProcessSample", "", "cpu_user_ns")
RESIDENT = ("ProcessSample", "", "resident_bytes")
PERIODS = ("CgroupCpuSample", "", "periods")
LIMIT = ("CgroupCpuSample", "", "limit_cores")


def readings(*texts: str) -> Readings:
    """Sources 1 and 2 have interned the texts as 1, 2, 3..."""
    names = Names()
    for source in (1, 2):
        for number, text in enumerate(texts):
            names.learn(source, Name(number + 1, NameKind.OTHER, 0, text))
    return Readings(names, Admission(CAPS))


def process(cpu: float | None, resident: float | None = None) -> ProcessSample:
    return ProcessSample(0, 0, cpu_user_ns=cpu, resident_bytes=resident)


def group(periods: float, inode: float = 9.0, limit: float = 2.0) -> CgroupCpuSample:
    return CgroupCpuSample(0, 0, inode=inode, periods=periods, limit_cores=limit)


def test_counters_count_from_the_first_reading() -> None:
    """What a process did before the agent came is not its rate now."""
    merged = readings()
    merged.add(1, process(1_000.0))
    assert merged.counters[CPU] == 0.0
    merged.add(1, process(1_500.0))
    assert merged.counters[CPU] == 500.0


def test_process_readings_are_summed() -> None:
    """Counters and gauges of two workers."""
    merged = readings()
    for source, cpu in ((1, 10.0), (2, 100.0)):
        merged.add(source, process(0.0))
        merged.add(source, process(cpu, resident=1000.0))
    assert merged.counters[CPU] == 110.0
    assert merged.gauges()[RESIDENT] == 2000.0


def test_container_host_and_pressure_readings_are_taken_once() -> None:
    """Several workers report the same container."""
    merged = readings("container")
    for at in (0.0, 10.0):
        for source in (1, 2):
            merged.add(source, group(at))
            merged.add(source, HostSample(0, 0, cpus=8.0, busy_ns=at))
            merged.add(source, PressureSample(0, 1, io_some_ns=at))
    assert merged.counters[PERIODS] == 10.0
    assert merged.counters["HostSample", "", "busy_ns"] == 10.0
    assert merged.counters["PressureSample", "container", "io_some_ns"] == 10.0
    assert merged.gauges()[LIMIT] == 2.0
    assert merged.gauges()["HostSample", "", "cpus"] == 8.0


def test_containers_that_share_a_directory_are_added_up() -> None:
    """Two servers of one pod are two control groups; their workers speak once each."""
    merged = readings("container")
    for at in (0.0, 10.0):
        for source, inode in ((1, 9.0), (2, 7.0), (3, 9.0)):
            merged.add(source, group(at, inode))
            merged.add(source, PressureSample(0, 1, io_some_ns=at))
            merged.add(source, HostSample(0, 0, cpus=8.0))
    assert merged.counters[PERIODS] == 20.0
    assert merged.counters["PressureSample", "container", "io_some_ns"] == 20.0
    assert merged.gauges()[LIMIT] == 4.0
    assert merged.gauges()["HostSample", "", "cpus"] == 8.0


def test_the_system_has_one_pressure_however_many_containers() -> None:
    """Each of them reads the same files."""
    merged = readings("system")
    for at in (0.0, 10.0):
        for source, inode in ((1, 9.0), (2, 7.0)):
            merged.add(source, group(at, inode))
            merged.add(source, PressureSample(0, 1, io_some_ns=at))
    assert merged.counters["PressureSample", "system", "io_some_ns"] == 10.0


def test_a_device_is_counted_once_by_its_uuid() -> None:
    """Two workers see the same GPU, and one of them another; their allocators are added up."""
    merged = readings("GPU-a", "GPU-b", "H200", "580.1", "GPU-a 79")
    for joules in (100.0, 130.0):
        for source, uuid in ((1, 1), (2, 1), (2, 2)):
            sample = GpuSample(0, uuid, 0.0, 3.0, 4.0, power_watts=300.0, energy_joules=joules)
            merged.add(source, sample)
            merged.add(source, TorchMemorySample(0, uuid, allocated_bytes=joules))
            merged.add(source, GpuXidSample(0, 5, errors=joules))
    for name in ("GPU-a", "GPU-b"):
        assert merged.counters["GpuSample", name, "energy_joules"] == 30.0
        assert merged.gauges()["GpuSample", name, "power_watts"] == 300.0
    assert merged.gauges()["TorchMemorySample", "GPU-a", "allocated_bytes"] == 260.0
    assert merged.counters["GpuXidSample", "GPU-a 79", "errors"] == 30.0
    assert merged.gpus() == (
        GpuFacts("GPU-a", 0, "H200", "580.1", ""),
        GpuFacts("GPU-b", 0, "H200", "580.1", ""),
    )
    merged.close_source(2)
    assert [facts.uuid for facts in merged.gpus()] == ["GPU-a"]


def test_one_that_cannot_read_a_device_does_not_hide_it() -> None:
    """The oldest worker's driver hangs, the other's answers."""
    merged = readings("GPU-a")
    merged.add(1, GpuSample(0, 1))
    merged.add(2, GpuSample(0, 1, power_watts=300.0))
    assert merged.gauges() == {("GpuSample", "GPU-a", "power_watts"): 300.0}
    merged.add(2, GpuSample(0, 1, 3.0, power_watts=300.0))
    assert merged.gpus() == (GpuFacts("GPU-a", 3, "", "", ""),)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_an_xid_is_counted_once_whoever_is_heard_first(order: tuple[int, ...]) -> None:
    """Every worker tells of it, beginning with a zero."""
    merged = readings("GPU-a 79")
    for source in order:
        for errors in (0.0, 1.0):
            merged.add(source, GpuXidSample(0, 1, errors=errors))
    assert merged.counters["GpuXidSample", "GPU-a 79", "errors"] == 1.0


def test_a_reading_that_failed_hides_nothing_from_a_counter() -> None:
    """What came meanwhile is there with the next one that works."""
    merged = readings("GPU-a")
    for joules in (0.0, 300.0, None, 900.0, None, None, 1800.0):
        merged.add(1, GpuSample(0, 1, power_watts=1.0, energy_joules=joules))
    assert merged.counters["GpuSample", "GPU-a", "energy_joules"] == 1800.0


def test_what_another_spoke_for_meanwhile_is_not_counted_again() -> None:
    """The one that takes over had missed some readings itself."""
    merged = readings("GPU-a")
    for source, joules in ((1, 0.0), (2, 0.0), (1, 500.0), (2, None), (1, 700.0)):
        merged.add(source, GpuSample(0, 1, power_watts=1.0, energy_joules=joules))
    merged.close_source(1)
    for joules in (720.0, 730.0):
        merged.add(2, GpuSample(0, 1, power_watts=1.0, energy_joules=joules))
    assert merged.counters["GpuSample", "GPU-a", "energy_joules"] == 710.0


def test_devices_without_a_series_of_their_own_are_not_mixed() -> None:
    """The sum of two temperatures is none. Their energy adds up."""
    merged = readings(*(f"GPU-{number}" for number in range(CAPS.readings + 2)))
    for joules in (0.0, 10.0):
        for uuid in range(1, CAPS.readings + 3):
            sample = GpuSample(0, uuid, temperature_celsius=60.0, energy_joules=joules)
            merged.add(1, sample)
    names = {name for _, name, field in merged.gauges() if field == "temperature_celsius"}
    assert len(names) == CAPS.readings
    assert "_OTHER" not in names
    assert len(merged.gpus()) == CAPS.readings
    assert merged.counters["GpuSample", "_OTHER", "energy_joules"] == 20.0


def test_an_error_before_the_first_reading_is_counted() -> None:
    """The probe's own errors count from the start of its process."""
    merged = readings("torch")
    merged.add(1, ProbeSample(0, 1, errors=2.0))
    merged.add(1, ProbeSample(0, 1, errors=3.0))
    merged.add(2, ProbeSample(0, 1, errors=1.0))
    assert merged.counters["ProbeSample", "torch", "errors"] == 4.0


def test_a_worker_that_comes_again_and_again_does_not_use_up_the_room() -> None:
    """Names that had series of their own have them again."""
    merged = readings("model", "gpu")
    for _ in range(10_000):
        merged.add(1, ModelSample(0, 1, parameters=1.0))
        merged.add(1, SignalSample(0, 2, available=1.0))
        merged.close_source(1)
    merged.add(2, ModelSample(0, 1, parameters=1.0))
    merged.add(2, SignalSample(0, 2, available=1.0))
    assert [facts.model for facts in merged.models()] == ["model"]
    assert [signal.name for signal in merged.signals()] == ["gpu"]


def test_another_source_takes_over_without_counting_twice() -> None:
    """When the one that spoke for the container has gone."""
    merged = readings()
    merged.add(2, group(100.0))  # speaks until source 1 is heard
    merged.add(1, group(100.0))
    merged.add(1, group(150.0))
    merged.add(2, group(150.0))
    merged.close_source(1)
    merged.add(2, group(160.0))
    assert merged.counters[PERIODS] == 60.0
    assert merged.gauges()[LIMIT] == 2.0


def test_counters_stay_monotonic_over_restarts() -> None:
    """A new process begins at zero, an old one may be reset behind the same key."""
    merged = readings()
    seen = []
    for source, value in ((1, 5.0), (1, 9.0), (1, 2.0), (1, 3.0), (2, 700.0), (2, 701.0)):
        if source == 2 and value == 700.0:
            merged.close_source(1)
        merged.add(source, process(value))
        seen.append(merged.counters[CPU])
    assert seen == [0.0, 4.0, 4.0, 5.0, 5.0, 6.0]


def test_a_move_to_another_control_group_adds_nothing() -> None:
    """Its counters are another group's."""
    merged = readings()
    merged.add(1, group(10.0, inode=1.0))
    merged.add(1, group(900.0, inode=2.0))
    assert merged.counters[PERIODS] == 0.0
    merged.add(1, group(905.0, inode=2.0))
    assert merged.counters[PERIODS] == 5.0


def test_gauges_end_when_their_source_closes() -> None:
    """Counters stay, gauges, facts and signals of a dead process do not."""
    merged = readings("model", "gpu")
    merged.add(1, process(1.0, resident=5.0))
    merged.add(1, ModelSample(0, 1, parameters=10.0))
    merged.add(1, SignalSample(0, 2, available=1.0))
    assert (len(merged.models()), len(merged.signals())) == (1, 1)
    merged.close_source(1)
    assert merged.gauges() == {}
    assert merged.models() == ()
    assert merged.signals() == ()
    assert merged.counters[CPU] == 0.0


def test_gauges_of_the_other_sources_go_on() -> None:
    """Closing one takes only its own."""
    merged = readings("model")
    for source in (1, 2):
        merged.add(source, process(1.0, resident=5.0))
        merged.add(source, ModelSample(0, 1, parameters=10.0))
    merged.close_source(1)
    assert merged.gauges()[RESIDENT] == 5.0
    assert [facts.model for facts in merged.models()] == ["model"]


def test_what_a_source_cannot_say_is_absent() -> None:
    """No zero is made of a None."""
    merged = readings()
    merged.add(1, process(None))
    merged.add(1, process(None))
    assert merged.counters == {}
    assert merged.gauges() == {}


def test_a_field_that_only_a_silent_source_knows_is_absent() -> None:
    """The one that speaks for the container speaks alone."""
    merged = readings()
    merged.add(1, CgroupCpuSample(0, 0, inode=9.0))
    merged.add(2, group(5.0))
    merged.add(2, group(6.0))
    assert PERIODS not in merged.counters
    assert LIMIT not in merged.gauges()


def test_gauges_that_do_not_add_up_are_merged_by_their_meaning() -> None:
    """The oldest age, the slowest run, the youngest start, a part that is off anywhere."""
    merged = readings("stacks")
    for source, value in ((1, 3.0), (2, 7.0)):
        merged.add(source, ServerSample(0, 5, workers=value, oldest_age_ns=value))
        merged.add(source, SamplerSample(0, 1, duration_ns=value))
        merged.add(source, ProcessSample(0, 0, start_wall_ns=value, threads=value))
        merged.add(source, ProbeSample(0, 1, enabled=float(source == 1)))
    gauges = merged.gauges()
    assert gauges["ServerSample", "", "workers"] == 10.0
    assert gauges["ServerSample", "", "oldest_age_ns"] == 7.0
    assert gauges["SamplerSample", "stacks", "duration_ns"] == 7.0
    assert gauges["ProcessSample", "", "start_wall_ns"] == 7.0
    assert gauges["ProcessSample", "", "threads"] == 10.0
    assert gauges["ProbeSample", "stacks", "enabled"] == 0.0


def test_loops_of_a_process_and_of_several_are_added_up() -> None:
    """Their lag is counted where it happens, by common bounds."""
    merged = readings("loop-1", "loop-2")
    for lag, late in ((0.0, 0.0), (5.0, 1.0)):
        for source in (1, 2):
            for instance in (1, 2):
                merged.add(source, LoopSample(0, instance, beats=lag, lag_ns=lag, lag_3=late))
    assert merged.counters["LoopSample", "", "lag_ns"] == 20.0
    assert merged.counters["LoopSample", "", "lag_3"] == 4.0
    assert ("LoopSample", "", "lag_0") not in merged.counters
    assert merged.gauges() == {}


def test_the_core_is_counted_where_it_can_be_read_alone() -> None:
    """A server without it takes nothing away from one with it."""
    merged = readings("grpc", "http")
    for wait in (10.0, 35.0):
        merged.add(1, ServerSample(0, 1, core_waiting=2.0, core_wait_ns=wait, core_abandoned=wait))
        merged.add(1, ServerSample(0, 2, in_flight=1.0))
    assert merged.counters["ServerSample", "", "core_wait_ns"] == 25.0
    assert merged.counters["ServerSample", "", "core_abandoned"] == 25.0
    assert merged.gauges()["ServerSample", "", "core_waiting"] == 2.0


def test_the_probes_of_several_processes_are_added_up_and_the_tightest_budget_shown() -> None:
    """One governor that interferes is one too many."""
    merged = readings()
    for cpu in (0.0, 7.0):
        for source, budget in ((1, 1.0), (2, 0.25)):
            sample = ProbeSample(0, 0, cpu_ns=cpu, memory_bytes=5.0, budget_ratio=budget)
            merged.add(source, sample)
    assert merged.counters["ProbeSample", "", "cpu_ns"] == 14.0
    assert merged.gauges()["ProbeSample", "", "memory_bytes"] == 10.0
    assert merged.gauges()["ProbeSample", "", "budget_ratio"] == 0.25


def test_a_signal_that_one_process_cannot_read_is_not_available() -> None:
    """With that process' reason, until it has gone."""
    merged = readings("psi", "not mounted")
    merged.add(1, SignalSample(0, 1, available=1.0))
    merged.add(2, SignalSample(0, 1, available=0.0, reason_id=2.0))
    (signal,) = merged.signals()
    assert (signal.name, signal.available, signal.reason) == ("psi", False, "not mounted")
    merged.close_source(2)
    assert merged.signals()[0].available


def test_a_flood_of_names_is_folded() -> None:
    """A ring can hold any names; they make a bounded number of series."""
    flood = 10_000
    merged = readings(*(f"name{i}" for i in range(flood)))
    for instance in range(1, flood + 1):
        merged.add(1, ModelSample(0, instance, parameters=1.0))
        merged.add(1, SignalSample(0, instance, available=1.0))
        merged.add(1, SamplerSample(0, instance, duration_ns=1.0, errors=0.0))
    assert len(merged.models()) == CAPS.readings + 1
    assert len(merged.signals()) == CAPS.readings + 1
    assert len(merged.counters) == CAPS.readings + 1
    assert len(merged.gauges()) == CAPS.readings + 1
