"""Runs samplers: owns their time, their failures and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from pinchpoint.samplers.source import Intern, Sampler, SourceNoData, SourceUnavailable
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample, SamplerSample, SignalSample
from pinchpoint.schema.wire import unsound_fields

SIGNAL_PERIOD_NS = 10_000_000_000
"""How often availability is said again, for readers that attach late."""

ERRORS_IN_A_ROW_MAX = 5
"""At 1 Hz: a source that fails this long does not mend by being read again."""


class Runner:
    """Several samplers, each isolated from the failures of the others.

    Args:
        samplers: run in this order.
        emit: takes every sample; what it raises is the caller's.
        intern: gives names their ids.
        clock: CLOCK_MONOTONIC in nanoseconds, for the samplers' own cost.
    """

    def __init__(
        self,
        samplers: Iterable[Sampler],
        emit: Callable[[Sample], None],
        intern: Intern,
        clock: Callable[[], int],
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._intern = intern
        self._slots = [_Slot(s, intern(NameKind.OTHER, s.name)) for s in samplers]

    def run_once(self, now_ns: int) -> None:
        """Run every sampler that is on, and emit what it and we have to say."""
        for slot in self._slots:
            if not slot.off:
                self._run(slot, now_ns)
            self._say_available(slot, now_ns)

    def close(self) -> None:
        """Release what the samplers hold."""
        for slot in self._slots:
            close = getattr(slot.sampler, "close", None)
            if close is not None:
                close()

    def _run(self, slot: _Slot, now_ns: int) -> None:
        started_ns = self._clock()
        samples = self._guarded(slot, now_ns)
        duration_ns = self._clock() - started_ns
        for sample in samples:
            self._emit(_sound(slot, sample))
        self._emit(SamplerSample(now_ns, slot.name_id, duration_ns, slot.errors))

    def _guarded(self, slot: _Slot, now_ns: int) -> Sequence[Sample]:
        try:
            samples = slot.sampler.sample(now_ns)
        except SourceNoData:
            slot.errors_in_a_row = 0
            return ()
        except SourceUnavailable as unavailable:
            self._switch_off(slot, unavailable.reason)
            return ()
        except Exception as error:
            self._count(slot, error)
            return ()
        slot.errors_in_a_row = 0
        slot.readable = True
        return samples

    def _count(self, slot: _Slot, error: Exception) -> None:
        slot.errors += 1
        slot.errors_in_a_row += 1
        if slot.errors_in_a_row >= ERRORS_IN_A_ROW_MAX:
            self._switch_off(
                slot,
                f"off until the server starts again, after {ERRORS_IN_A_ROW_MAX} failures in a "
                f"row; the last was {type(error).__name__}: {error}",
            )

    def _switch_off(self, slot: _Slot, reason: str) -> None:
        slot.off = True
        slot.off_reason_id = self._intern(NameKind.OTHER, reason)
        slot.readable = False
        slot.said_at_ns = None

    def _say_available(self, slot: _Slot, now_ns: int) -> None:
        if not slot.readable and not slot.off:
            return
        if slot.said_at_ns is not None and now_ns - slot.said_at_ns < SIGNAL_PERIOD_NS:
            return
        slot.said_at_ns = now_ns
        if slot.readable:
            self._emit(SignalSample(now_ns, slot.name_id, available=1))
        else:
            reason_id = slot.off_reason_id
            self._emit(SignalSample(now_ns, slot.name_id, available=0, reason_id=reason_id))


def _sound(slot: _Slot, sample: Sample) -> Sample:
    """The sample without what can be no reading, which is counted as an error."""
    wrong = unsound_fields(sample)
    if not wrong:
        return sample
    slot.errors += 1
    absent: dict[str, Any] = dict.fromkeys(wrong)
    return replace(sample, **absent)


class _Slot:
    """A sampler and what happened to it so far."""

    def __init__(self, sampler: Sampler, name_id: int) -> None:
        self.sampler = sampler
        self.name_id = name_id
        self.errors = 0
        self.errors_in_a_row = 0
        self.readable = False
        self.off = False
        self.off_reason_id = 0
        self.said_at_ns: int | None = None
