"""GPUs are read in a thread of their own: a call to the driver that never returns stops nothing
else.

Theory of operation. Once a second the probe's sampler thread takes the answer to its last
question, and asks the next one; it never waits. The GPU thread reads when it is asked and is
asked nothing before it has answered. So the kill switch, which stops the questions, stops the
readings, and a hanging call is a question without an answer: after `HUNG_QUESTIONS` seconds the
signal is said to be missing and the GPUs' readings end, until the answer comes. Seconds are
counted by questions, which a suspended process does not ask.

On a machine without NVIDIA's driver a few paths are looked at, once: no thread, no import.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pinchpoint.samplers.nvml_driver import NO_DRIVER, has_driver
from pinchpoint.samplers.runner import SIGNAL_PERIOD_NS, Runner
from pinchpoint.samplers.source import Intern
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import GpuSample, Sample, SamplerSample, SignalSample

if TYPE_CHECKING:
    from pinchpoint.samplers.nvml import NvmlSampler

SIGNAL = "nvml"

HUNG_QUESTIONS = 10
"""At 1 Hz. The driver's start takes seconds where nothing keeps it loaded."""

HUNG = (
    f"a call to the NVIDIA driver has not returned for {HUNG_QUESTIONS} s: look for XID errors in "
    "the machine's kernel log; readings go on if it returns"
)


def _nvml_sampler(intern: Intern) -> NvmlSampler:
    from pinchpoint.samplers.nvml import NvmlSampler

    return NvmlSampler(intern)


class GpuSampling:
    """Owns the GPU thread of this process.

    Args:
        intern: gives names their ids.
        make: makes the sampler, in the GPU thread.
        driver_files: without any of them there is no driver; by default the real ones.
    """

    def __init__(
        self,
        intern: Intern,
        make: Callable[[Intern], NvmlSampler] = _nvml_sampler,
        driver_files: Sequence[Path] | None = None,
    ) -> None:
        self._intern = intern
        self._make = make
        self._driver_files = driver_files
        self._thread: threading.Thread | None = None
        self._absent: bool | None = None
        self._questions: SimpleQueue[int | None] = SimpleQueue()
        self._answers: deque[list[Sample]] = deque()
        self._failure: Exception | None = None
        self._unanswered = 0
        self._counted_ns = 0
        self._hangs = 0
        self._gpus: set[int] = set()
        self._said: SignalSample | None = None
        self._said_missing_ns: int | None = None
        self.cpu_ns = 0
        """CPU time of the GPU thread so far."""

    def thread_ids(self) -> list[int]:
        """The kernel's id of the GPU thread, if there is one."""
        native_id = None if self._thread is None else self._thread.native_id
        return [] if native_id is None else [native_id]

    def samples(self, now_ns: int) -> Sequence[Sample]:
        """What the GPU thread has read since the last call. Asks it to read again.

        Called in the probe's sampler thread only.

        Raises:
            Exception: what ended the GPU thread.
        """
        if self._failure is not None:
            raise self._failure
        if self._absent is None:
            self._absent = not has_driver(self._driver_files)
        if self._absent:
            return self._missing(now_ns, NO_DRIVER)
        samples = self._taken(now_ns)
        if not self._unanswered:
            self._ask(now_ns)
        elif now_ns > self._counted_ns:
            self._unanswered += 1
            self._counted_ns = now_ns
        if self._unanswered > HUNG_QUESTIONS:
            samples += self._hung(now_ns)
        return samples

    def stop(self) -> None:
        """Tell the thread to end; it is a daemon and is not waited for."""
        self._questions.put(None)

    def _ask(self, now_ns: int) -> None:
        if self._thread is None:
            # It inherits the caller's signal mask: signals are left to the server.
            self._thread = threading.Thread(target=self._run, name="pinchpoint-gpu", daemon=True)
            self._thread.start()
        self._unanswered = 1
        self._counted_ns = now_ns
        self._questions.put(now_ns)

    def _taken(self, now_ns: int) -> list[Sample]:
        if not self._answers:
            return []
        answer = self._answers.popleft()
        hung, self._unanswered = self._unanswered > HUNG_QUESTIONS, 0
        signals = [sample for sample in answer if isinstance(sample, SignalSample)]
        self._gpus.update(sample.instance for sample in answer if isinstance(sample, GpuSample))
        if signals:
            self._said = signals[-1]
        if not hung:
            return answer
        self._said_missing_ns = None
        if self._said is not None and not signals:
            answer.append(replace(self._said, time_ns=now_ns))
        # Some of it was read before the hang: its readings are of the past.
        return [sample for sample in answer if not isinstance(sample, GpuSample)]

    def _hung(self, now_ns: int) -> list[Sample]:
        if self._unanswered == HUNG_QUESTIONS + 1:
            self._hangs += 1
        return [*self._missing(now_ns, HUNG), *(GpuSample(now_ns, gpu) for gpu in self._gpus)]

    def _missing(self, now_ns: int, reason: str) -> list[Sample]:
        said_ns = self._said_missing_ns
        if said_ns is not None and now_ns - said_ns < SIGNAL_PERIOD_NS:
            return []
        self._said_missing_ns = now_ns
        name_id = self._intern(NameKind.OTHER, SIGNAL)
        reason_id = self._intern(NameKind.OTHER, reason)
        return [SignalSample(now_ns, name_id, available=0, reason_id=reason_id)]

    def _run(self) -> None:
        try:
            self._answer_questions()
        except Exception as error:
            self._failure = error

    def _answer_questions(self) -> None:
        sampler = self._make(self._intern)
        answer: list[Sample] = []

        def take(sample: Sample) -> None:
            if isinstance(sample, SamplerSample):
                errors = (sample.errors or 0) + sampler.errors + self._hangs
                sample = replace(sample, errors=errors)
            answer.append(sample)

        runner = Runner((sampler,), take, self._intern, time.monotonic_ns)
        while (now_ns := self._questions.get()) is not None:
            runner.run_once(now_ns)
            self.cpu_ns = time.thread_time_ns()
            self._answers.append(answer.copy())
            answer.clear()
        runner.close()
