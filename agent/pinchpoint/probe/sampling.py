"""The probe's two threads: a heartbeat at 10 Hz, and a sampler that looks at request
threads five times a second and runs everything else once a second."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from pinchpoint.probe import thread_state
from pinchpoint.probe.call import QUEUE, Call
from pinchpoint.probe.grpc_server import GrpcServerProbe
from pinchpoint.probe.guard import Guard
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.torch_forward import TorchForwardProbe
from pinchpoint.samplers.cgroup import CgroupSampler
from pinchpoint.samplers.pressure import PressureSampler
from pinchpoint.samplers.process import ProcessSampler
from pinchpoint.samplers.python_runtime import GcWatch, Heartbeat, PythonSampler
from pinchpoint.samplers.runner import Runner
from pinchpoint.samplers.stacks import ActiveThread, StackSampler
from pinchpoint.samplers.threads import ThreadsSampler
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import MethodSample, ProbeSample, ServerSample

LOOK_SECONDS = 0.2

HEARTBEAT, STACKS, SAMPLERS, SERVER, MODELS, PROBE = (
    "heartbeat",
    "stacks",
    "samplers",
    "server",
    "models",
    "probe",
)
"""The parts of the guard that are made here."""


class Sampling:
    """Owns the probe's threads in this process.

    Args:
        guard: each step of the sampling is a part of it.
        recorder: where samples go.
        gc_watch: installed by the caller.
        grpc: tells what is running.
        torch: tells about models, once torch is there.
    """

    def __init__(
        self,
        guard: Guard,
        recorder: Recorder,
        gc_watch: GcWatch,
        grpc: GrpcServerProbe,
        torch: TorchForwardProbe,
    ) -> None:
        self._guard = guard
        self._recorder = recorder
        self._grpc = grpc
        self._torch = torch
        self._stop = threading.Event()
        self._heartbeat = Heartbeat()
        self._stacks = StackSampler(self._active_threads, recorder.intern)
        threads = ThreadsSampler(recorder.intern, thread_state.serving_ids, self._own_ids)
        self._runner = Runner(
            (
                ProcessSampler(),
                threads,
                CgroupSampler(),
                PressureSampler(recorder.intern),
                PythonSampler(self._heartbeat, gc_watch),
            ),
            recorder.sample,
            recorder.intern,
            time.monotonic_ns,
        )
        self._seen = grpc.seen
        self._busy = self._looks = 0
        self._methods_running: set[int] = set()
        self._threads = (
            threading.Thread(target=self._beat, name="pinchpoint-heartbeat", daemon=True),
            threading.Thread(target=self._sample, name="pinchpoint-sampler", daemon=True),
        )

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell the threads to end; they are daemons and are not waited for."""
        self._stop.set()

    def _own_ids(self) -> list[int]:
        return [t.native_id for t in self._threads if t.native_id is not None]

    def close(self) -> None:
        """Release the descriptors of the samplers. Not while the threads run."""
        self._runner.close()
        self._stacks.close()

    def _beat(self) -> None:
        part = self._guard.part(HEARTBEAT)
        try:
            _leave_signals_to_the_server()
            self._heartbeat.run(self._stop.is_set)
        except Exception as error:
            part.trip(error)

    def _sample(self) -> None:
        _leave_signals_to_the_server()
        next_second = deadline = time.monotonic()
        while not self._stop.is_set():
            self._run(STACKS, self._look)
            if time.monotonic() >= next_second:
                next_second = max(next_second + 1.0, time.monotonic() + 0.5)
                self._once_a_second()
            # Absolute deadlines keep the pace. A look that was missed is left out, and a late
            # one is followed by a rest: a busy server has better things to do.
            now = time.monotonic()
            deadline = max(deadline + LOOK_SECONDS, now + LOOK_SECONDS / 2)
            self._stop.wait(deadline - now)
        self.close()

    def _run(self, name: str, step: Callable[[], None]) -> None:
        """One step of the sampler, a part of its own: its failure ends nothing else."""
        part = self._guard.part(name)
        if part.enabled:
            try:
                step()
            except Exception as error:
                part.trip(error)

    def _once_a_second(self) -> None:
        now_ns = time.monotonic_ns()
        self._run(SAMPLERS, lambda: self._runner.run_once(now_ns))
        self._run(SERVER, lambda: self._sample_server(now_ns))
        self._run(MODELS, lambda: self._sample_models(now_ns))
        self._run(PROBE, lambda: self._sample_probe(now_ns))

    def _calls(self) -> list[Call]:
        return list(self._grpc.active.values())

    def _active_threads(self) -> list[ActiveThread]:
        return [
            ActiveThread(thread.ident, thread.native_id, call.method_id, call.stage)
            for call in self._calls()
            if (thread := call.thread) is not None
        ]

    def _look(self) -> None:
        for event in self._stacks.sample(time.monotonic_ns()):
            self._recorder.stack(event)
        self._busy += sum(call.thread is not None for call in self._calls())
        self._looks += 1

    def _sample_server(self, now_ns: int) -> None:
        calls = self._calls()
        pools = self._grpc.workers()
        waiting = sum(call.stage == QUEUE for call in calls)
        oldest_ns = max((now_ns - call.arrival_ns for call in calls), default=0)
        busy = self._busy / self._looks if self._looks else None
        self._busy = self._looks = 0
        self._recorder.sample(
            ServerSample(
                now_ns,
                self._recorder.intern(NameKind.SERVER, "grpc"),
                workers=pools,
                workers_busy=busy,
                queued=waiting,
                in_flight=len(calls),
                oldest_age_ns=oldest_ns,
                seen=self._grpc.seen,
            )
        )
        seen, self._seen = self._seen, self._grpc.seen
        self._recorder.adapt(self._seen - seen)
        running = Counter(call.method_id for call in self._calls())
        for method_id in self._methods_running | running.keys():
            self._recorder.sample(MethodSample(now_ns, method_id, in_flight=running[method_id]))
        self._methods_running = set(running)

    def _sample_models(self, now_ns: int) -> None:
        for sample in self._torch.samples(now_ns):
            self._recorder.sample(sample)

    def _sample_probe(self, now_ns: int) -> None:
        self._recorder.writer.refresh_anchor()
        intern = self._recorder.intern
        for name, part in list(self._guard.parts.items()):
            self._recorder.sample(
                ProbeSample(
                    now_ns,
                    intern(NameKind.OTHER, name),
                    errors=part.errors,
                    enabled=part.enabled,
                )
            )
        self._recorder.sample(ProbeSample(now_ns, 0, sample_every=self._recorder.every))


def _leave_signals_to_the_server() -> None:
    """A signal sent to the process must reach the thread that the server waits with."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
