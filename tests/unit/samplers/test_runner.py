from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest

from pinchpoint.samplers.runner import ERRORS_IN_A_ROW_MAX, SIGNAL_PERIOD_NS, Runner
from pinchpoint.samplers.source import SourceNoData, SourceUnavailable
from pinchpoint.schema.samples import ProcessSample, Sample, SamplerSample, SignalSample
from tests.unit.samplers.support import Names

SECOND = 1_000_000_000


class Scripted:
    """Does at each run what it was told: returns nothing special, or raises."""

    def __init__(self, name: str, *script: Exception | None) -> None:
        self.name = name
        self._script = list(script)
        self.runs = 0
        self.closed = False

    def sample(self, now_ns: int) -> Sequence[Sample]:
        self.runs += 1
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if step is not None:
            raise step
        return (ProcessSample(now_ns, 0, threads=self.runs),)

    def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, *samplers: Scripted) -> None:
        self.names = Names()
        self.out: list[Sample] = []
        ticks = count(step=40)
        self.runner = Runner(samplers, self.out.append, self.names, lambda: next(ticks))

    def run(self, times: int = 1, step_ns: int = SECOND) -> None:
        for index in range(times):
            self.runner.run_once(index * step_ns)

    def signals(self) -> list[SignalSample]:
        return [s for s in self.out if isinstance(s, SignalSample)]

    def costs(self) -> list[SamplerSample]:
        return [s for s in self.out if isinstance(s, SamplerSample)]

    def readings(self) -> list[ProcessSample]:
        return [s for s in self.out if isinstance(s, ProcessSample)]


def test_a_run_is_timed_and_named() -> None:
    rig = Rig(Scripted("process", None))
    rig.run()
    (cost,) = rig.costs()
    assert (cost.duration_ns, cost.errors) == (40, 0)
    assert rig.names.text(cost.instance) == "process"
    assert len(rig.readings()) == 1


def test_a_readable_source_is_said_to_be_available_every_ten_seconds() -> None:
    rig = Rig(Scripted("process", None))
    rig.run(25)
    assert [s.time_ns for s in rig.signals()] == [0, SIGNAL_PERIOD_NS, 2 * SIGNAL_PERIOD_NS]
    assert {s.available for s in rig.signals()} == {1}


def test_no_data_is_quiet() -> None:
    source = Scripted("process", SourceNoData())
    rig = Rig(source)
    rig.run(12)
    assert source.runs == 12
    assert rig.signals() == []
    assert {cost.errors for cost in rig.costs()} == {0}


def test_an_unavailable_source_is_switched_off_and_says_why_again_and_again() -> None:
    source = Scripted("pressure", SourceUnavailable("no PSI; boot with psi=1"))
    rig = Rig(source)
    rig.run(21)
    assert source.runs == 1
    assert [s.available for s in rig.signals()] == [0, 0, 0]
    assert rig.names.text(rig.signals()[-1].reason_id) == "no PSI; boot with psi=1"


def test_a_source_that_goes_away_is_said_at_once() -> None:
    rig = Rig(Scripted("cgroup", None, SourceUnavailable("gone")))
    rig.run(2)
    assert [(s.time_ns, s.available) for s in rig.signals()] == [(0, 1), (SECOND, 0)]


def test_an_error_is_counted_and_the_source_kept() -> None:
    source = Scripted("process", ValueError("odd"), None)
    rig = Rig(source)
    rig.run(3)
    assert source.runs == 3
    assert [cost.errors for cost in rig.costs()] == [1, 1, 1]
    assert [s.available for s in rig.signals()] == [1]


def test_errors_in_a_row_switch_a_source_off() -> None:
    source = Scripted("process", ValueError("odd"))
    rig = Rig(source)
    rig.run(9)
    assert source.runs == ERRORS_IN_A_ROW_MAX
    (signal,) = rig.signals()
    assert signal.available == 0
    assert "ValueError: odd" in rig.names.text(signal.reason_id)


@pytest.mark.parametrize("relief", [None, SourceNoData()])
def test_errors_that_are_not_in_a_row_do_not(relief: Exception | None) -> None:
    script = [ValueError(), ValueError(), ValueError(), ValueError(), relief] * 2
    source = Scripted("process", *script)
    rig = Rig(source)
    rig.run(10)
    assert source.runs == 10
    assert all(s.available == 1 for s in rig.signals())


def test_one_failing_source_does_not_stop_the_next() -> None:
    rig = Rig(Scripted("cgroup", RuntimeError()), Scripted("process", None))
    rig.run(2)
    assert len(rig.readings()) == 2


def test_a_full_name_table_does_not_switch_a_source_on_again() -> None:
    source = Scripted("process", SourceUnavailable("why"))
    runner = Runner([source], lambda sample: None, lambda kind, text: 0, lambda: 0)
    for now_ns in range(5):
        runner.run_once(now_ns)
    assert source.runs == 1


def test_closing_closes_the_samplers() -> None:
    source = Scripted("process", None)
    rig = Rig(source)
    rig.runner.close()
    assert source.closed
