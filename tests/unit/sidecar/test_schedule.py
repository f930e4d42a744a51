from __future__ import annotations

from pinchpoint.sidecar.schedule import JITTER_NS, PERIOD_NS, Schedule


def test_deadlines_keep_their_pace_whatever_the_lateness() -> None:
    schedule = Schedule(0)
    for turn in range(1, 100):
        schedule.advance(schedule.deadline_ns + 3_000_000)
        assert schedule.lateness_ns == 3_000_000
        assert abs(schedule.deadline_ns - turn * PERIOD_NS) <= JITTER_NS // 2


def test_a_deadline_that_has_not_come_stays() -> None:
    schedule = Schedule(0)
    assert schedule.advance(7)
    deadline_ns = schedule.deadline_ns
    for now_ns in (8, PERIOD_NS // 2, deadline_ns - 1):
        assert not schedule.advance(now_ns)
        assert (schedule.deadline_ns, schedule.lateness_ns) == (deadline_ns, 7)
    assert schedule.advance(deadline_ns)


def test_deadlines_are_not_in_step() -> None:
    schedule = Schedule(0)
    phases = set()
    for _ in range(50):
        schedule.advance(schedule.deadline_ns)
        phases.add(schedule.deadline_ns % PERIOD_NS)
    assert len(phases) == 50


def test_missed_deadlines_are_left_out() -> None:
    schedule = Schedule(0)
    schedule.advance(10 * PERIOD_NS + PERIOD_NS // 2)
    assert schedule.lateness_ns == 10 * PERIOD_NS + PERIOD_NS // 2
    assert schedule.remaining_ns(10 * PERIOD_NS) <= PERIOD_NS + JITTER_NS
    assert schedule.remaining_ns(12 * PERIOD_NS) == 0
