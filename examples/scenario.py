"""The story of the demo, step by step: baseline, fault in, label, fault out, healthy again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from examples.faults import Fault
from examples.results import Outcome, Results
from examples.rig import PartFailed, Rig
from examples.verdict import BOTTLENECK, HEALTHY, Verdict, parse_verdict

_TICK_S = 1.0
_BASELINE_S = 15.0
_BASELINE_TIMEOUT_S = 60.0
_LABEL_TIMEOUT_S = 40.0
_HOLD_LABELLED_S = 4.0
_HEALTHY_TIMEOUT_S = 60.0
_HOLD_HEALTHY_S = 12.0
# The agent shares the machine with everything else here and may be late, but not for long.
_MAX_SILENT_TICKS = 15


@dataclass(frozen=True)
class Event:
    """A line of the timeline; ``kind`` is one of info, fault, good, bad."""

    time_s: float
    kind: str
    text: str


@dataclass
class Moment:
    """What there is to show now."""

    time_s: float
    step: str
    verdict: Verdict | None
    events: list[Event] = field(default_factory=list)


class View(Protocol):
    """Shows the demo as it goes."""

    def show(self, moment: Moment) -> None:
        """Show this moment; called about once a second and at every event."""


class Scenario:
    """Runs the steps against a rig and collects the results."""

    def __init__(self, rig: Rig, view: View, results: Results) -> None:
        self._rig = rig
        self._view = view
        self._results = results
        self._start_s = time.monotonic()
        self._next_tick_s = self._start_s
        self._silent_ticks = 0
        self._moment = Moment(0.0, "starting", None)

    def run_faults(self, faults: Sequence[Fault]) -> None:
        """Inject each fault in turn."""
        if not self._baseline():
            return
        for fault in faults:
            self._run_fault(fault)

    def run_without_fault(self, seconds: float) -> None:
        """Only watch; a label other than healthy, once it was healthy, is a false one."""
        if not self._baseline():
            return
        self._moment.step = "no fault"

        def note_false_label(verdict: Verdict) -> bool:
            if verdict.state == BOTTLENECK:
                _append_new(self._results.false_labels, verdict.primary.type)
            return False

        self._wait_until(note_false_label, seconds)
        if self._results.false_labels:
            labels = ", ".join(self._results.false_labels)
            self._results.failures.append(f"without any fault the agent said: {labels}")
            self.say("bad", f"false label: {labels}")
        else:
            self.say("good", f"no label in {seconds:.0f} s without a fault")

    def say(self, kind: str, text: str) -> None:
        """Add a line to the timeline and show it."""
        self._moment.time_s = time.monotonic() - self._start_s
        self._moment.events.append(Event(self._moment.time_s, kind, text))
        self._view.show(self._moment)

    def _baseline(self) -> bool:
        self._moment.step = "baseline"
        self.say("info", "baseline: traffic flows, nothing is broken")
        self._wait_until(lambda _verdict: False, _BASELINE_S)
        if self._wait_until(_is_healthy, _BASELINE_TIMEOUT_S - _BASELINE_S) is None:
            said = self._moment.verdict.primary.type if self._moment.verdict else "nothing"
            self._results.failures.append(
                f"not healthy within {_BASELINE_TIMEOUT_S:.0f} s before any fault; "
                f"the agent says: {said}"
            )
            self.say("bad", f"never healthy before any fault, but {said}")
            return False
        self.say("good", "healthy")
        return True

    def _run_fault(self, fault: Fault) -> None:
        outcome = Outcome(fault.name, fault.label)
        self._results.outcomes.append(outcome)
        self._moment.step = f"injecting {fault.name}"
        self._view.show(self._moment)
        try:
            fault.inject(self._rig)
            self._moment.step = f"fault {fault.name}"
            self.say("fault", f"injected {fault.name}")
            self._await_label(fault, outcome)
        finally:
            fault.remove(self._rig)
        self._moment.step = f"recovering from {fault.name}"
        self.say("info", f"removed {fault.name}")
        outcome.seconds_until_healthy = self._wait_until(_is_healthy, _HEALTHY_TIMEOUT_S)
        if outcome.seconds_until_healthy is None:
            self.say("bad", f"not healthy {_HEALTHY_TIMEOUT_S:.0f} s after the removal")
            return
        self.say("good", f"healthy after {outcome.seconds_until_healthy:.0f} s")
        self._moment.step = "healthy again"
        self._wait_until(lambda _verdict: False, _HOLD_HEALTHY_S)

    def _await_label(self, fault: Fault, outcome: Outcome) -> None:
        def is_labelled(verdict: Verdict) -> bool:
            _append_new(outcome.types_seen, verdict.primary.type)
            return verdict.primary.type == fault.label

        outcome.seconds_until_label = self._wait_until(is_labelled, _LABEL_TIMEOUT_S)
        if outcome.seconds_until_label is None:
            said = " then ".join(outcome.types_seen) or "nothing"
            self.say("bad", f"not labelled {fault.label} in {_LABEL_TIMEOUT_S:.0f} s, but {said}")
            return
        self.say("good", f"labelled {fault.label} after {outcome.seconds_until_label:.0f} s")
        self._wait_until(lambda _verdict: False, _HOLD_LABELLED_S)

    def _wait_until(self, reached: Callable[[Verdict], bool], limit_s: float) -> float | None:
        """Poll until a verdict satisfies; return the seconds it took, None after the limit."""
        start_s = time.monotonic()
        while True:
            verdict = self._tick()
            elapsed_s = time.monotonic() - start_s
            if verdict is not None and reached(verdict):
                return elapsed_s
            if elapsed_s >= limit_s:
                return None

    def _tick(self) -> Verdict | None:
        # A tick that came late starts a new rhythm rather than a burst of polls.
        self._next_tick_s = max(self._next_tick_s + _TICK_S, time.monotonic())
        self._rig.interruption.sleep(self._next_tick_s - time.monotonic())
        self._rig.check()
        document = self._rig.verdict()
        verdict = None if document is None else parse_verdict(document)
        if verdict is None:
            self._silent_ticks += 1
            if self._silent_ticks > _MAX_SILENT_TICKS:
                raise PartFailed(f"the agent has not answered {_MAX_SILENT_TICKS} times in a row")
        else:
            self._silent_ticks = 0
            if verdict.unattributed_ratio is not None:
                self._results.unattributed_ratios.append(verdict.unattributed_ratio)
        self._moment.verdict = verdict
        self._moment.time_s = time.monotonic() - self._start_s
        self._view.show(self._moment)
        return verdict


def _is_healthy(verdict: Verdict) -> bool:
    return verdict.state == HEALTHY


def _append_new(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)
