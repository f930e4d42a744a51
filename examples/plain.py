"""The demo as plain lines, for logs and pipes."""

from __future__ import annotations

from examples.numbers_as_text import clock, count, milliseconds, percent
from examples.scenario import Moment
from examples.verdict import Verdict

_STATUS_EVERY_S = 5.0


class PlainView:
    """One line an event, one a change of label, and one every few seconds otherwise."""

    def __init__(self) -> None:
        self._events_shown = 0
        self._label_shown = ""
        self._status_due_s = 0.0

    def show(self, moment: Moment) -> None:
        """Print what is new."""
        for event in moment.events[self._events_shown :]:
            print(f"{clock(event.time_s):>5}  * {event.text}", flush=True)
        self._events_shown = len(moment.events)
        if moment.verdict is None:
            return
        label = _label(moment.verdict)
        if label != self._label_shown:
            self._label_shown = label
            self._status_due_s = moment.time_s + _STATUS_EVERY_S
            print(f"{clock(moment.time_s):>5}    {_status(moment.verdict)}", flush=True)
            for text in moment.verdict.primary.evidence:
                print(f"           because {text}", flush=True)
        elif moment.time_s >= self._status_due_s:
            self._status_due_s = moment.time_s + _STATUS_EVERY_S
            print(f"{clock(moment.time_s):>5}    {_status(moment.verdict)}", flush=True)


def _label(verdict: Verdict) -> str:
    primary = verdict.primary
    return f"{primary.type} ({primary.state})" if primary.state else primary.type


def _status(verdict: Verdict) -> str:
    traffic = verdict.traffic
    shares = ", ".join(f"{share.name} {percent(share.ratio)}" for share in verdict.shares[:4])
    return (
        f"{_label(verdict)}: {count(traffic.requests_per_second, 1)} requests/s, "
        f"p50 {milliseconds(traffic.p50_seconds)}, p99 {milliseconds(traffic.p99_seconds)}, "
        f"{count(traffic.in_flight)} in flight; {shares or 'no shares yet'}"
    )
