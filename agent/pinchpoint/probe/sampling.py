"""The probe's two threads: a heartbeat at 10 Hz, and a sampler that looks at request
threads five times a second and runs everything else once a second, the kill switch and the
governor included. Where there are GPUs, a third one reads them (`gpu_sampling`)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from pinchpoint.probe import thread_state
from pinchpoint.probe.call import QUEUE, Call
from pinchpoint.probe.governor import LOOK_SECONDS, CpuAccount, Governor
from pinchpoint.probe.gpu_sampling import GpuSampling
from pinchpoint.probe.grpc_plain import InFlight
from pinchpoint.probe.guard import Guard
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.server_probe import ServerProbe
from pinchpoint.probe.switch import Switch
from pinchpoint.samplers.cgroup import CgroupSampler
from pinchpoint.samplers.pressure import PressureSampler
from pinchpoint.samplers.process import ProcessSampler
from pinchpoint.samplers.python_runtime import GcWatch, Heartbeat, PythonSampler
from pinchpoint.samplers.runner import Runner
from pinchpoint.samplers.stacks import ActiveTask, ActiveThread, StackSampler
from pinchpoint.samplers.threads import ThreadsSampler
from pinchpoint.samplers.torch_memory import TorchMemorySampler
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import MethodSample, ProbeSample, Sample, ServerSample

HEARTBEAT, STACKS, CORE, SAMPLERS, GPU, SERVER, GOVERNOR, SWITCH, PROBE = (
    "heartbeat",
    "stacks",
    "core",
    "samplers",
    "nvml",
    "server",
    "governor",
    "switch",
    "probe",
)
"""The parts of the guard that are made here. The last two obey the kill switch and tell of all
parts: it leaves them on."""

CALL_BYTES = 1_000
THREAD_BYTES = 500
"""Of a request in flight with its clocks, and of what is kept for a thread: sizes of their
objects on 64-bit CPython, rounded up."""


class Sampling:
    """Owns the probe's threads in this process.

    Args:
        guard: each step of the sampling is a part of it.
        recorder: where samples go.
        gc_watch: installed by the caller.
        servers: the server probes of the process.
        active: the requests that have come and are not finished.
        plain: those of them that are no `Call` yet.
        sources: by the name of their part, what else is asked for samples once a second.
        loop_threads: identity of the threads that run event loops.
    """

    def __init__(
        self,
        guard: Guard,
        recorder: Recorder,
        gc_watch: GcWatch,
        servers: Sequence[ServerProbe],
        active: Collection[Call],
        plain: Callable[[], Sequence[InFlight]],
        sources: Sequence[tuple[str, Callable[[int], Sequence[Sample]]]],
        loop_threads: Callable[[], Sequence[tuple[int, int]]] = tuple,
    ) -> None:
        self._guard = guard
        self._recorder = recorder
        self._servers = servers
        self._active = active
        self._plain = plain
        self._sources = sources
        self._stop = threading.Event()
        for name in (SWITCH, CORE, PROBE):
            guard.part(name, always_on=True)
        self._switch = Switch(recorder.directory, os.getpid())
        self._governor = Governor()
        self._account: CpuAccount | None = None
        self._beating_ns = 0
        self._sampled = 0.0
        self._heartbeat = Heartbeat()
        self._gpu = GpuSampling(recorder.intern)
        self._stacks = StackSampler(self._in_progress, recorder.intern, loops=loop_threads)
        threads = ThreadsSampler(recorder.intern, thread_state.serving_ids, self._own_ids)
        self._runner = Runner(
            (
                ProcessSampler(),
                threads,
                CgroupSampler(),
                PressureSampler(recorder.intern),
                PythonSampler(self._heartbeat, gc_watch),
                TorchMemorySampler(recorder.intern),
            ),
            recorder.sample,
            recorder.intern,
            time.monotonic_ns,
        )
        self._seen = 0
        self._busy: Counter[int] = Counter()
        self._looks = 0
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
        self._gpu.stop()

    def _own_ids(self) -> list[int]:
        own = [t.native_id for t in self._threads if t.native_id is not None]
        return [*own, *self._gpu.thread_ids()]

    def close(self) -> None:
        """Release the descriptors of the samplers. Not while the threads run."""
        self._runner.close()
        self._stacks.close()

    def _beat(self) -> None:
        part = self._guard.part(HEARTBEAT)

        def rests() -> bool:
            self._beating_ns = time.thread_time_ns()
            return self._stop.is_set() or not part.enabled

        try:
            _leave_signals_to_the_server()
            while not (self._stop.is_set() or part.errors):
                self._heartbeat.run(rests)
                if not part.enabled:
                    self._stop.wait(1.0)
        except Exception as error:
            part.trip(error)

    def _sample(self) -> None:
        part = self._guard.part(PROBE)
        try:
            _leave_signals_to_the_server()
            self._keep_sampling()
            self.close()
        except Exception as error:
            part.trip(error)

    def _keep_sampling(self) -> None:
        next_second = deadline = time.monotonic()
        while not self._stop.is_set():
            self._run(STACKS, self._look)
            self._run(CORE, self._poll_core)
            if time.monotonic() >= next_second:
                next_second = max(next_second + 1.0, time.monotonic() + 0.5)
                self._once_a_second()
            # Absolute deadlines keep the pace. A look that was missed is left out, and a late
            # one is followed by a rest: a busy server has better things to do.
            now = time.monotonic()
            look_seconds = self._governor.look_seconds
            deadline = max(deadline + look_seconds, now + LOOK_SECONDS / 2)
            self._stop.wait(deadline - now)

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
        self._run(SWITCH, self._obey_switch)
        self._run(SAMPLERS, lambda: self._runner.run_once(now_ns))
        self._run(GPU, lambda: self._emit(self._gpu.samples(now_ns)))
        self._run(SERVER, lambda: self._sample_servers(now_ns))
        for name, samples in self._sources:
            self._run(name, lambda samples=samples: self._emit(samples(now_ns)))  # type: ignore[misc]
        self._run(GOVERNOR, self._govern)
        self._run(PROBE, lambda: self._sample_probe(now_ns))

    def _obey_switch(self) -> None:
        if self._switch.is_off():
            self._guard.pause()
        elif self._guard.paused:
            self._guard.resume()

    def _govern(self) -> None:
        if self._account is None:
            self._account = CpuAccount()
        sampled, self._sampled = self._sampled, 0.0
        self._governor.decide(*self._account.add(self._beating_ns + self._gpu.cpu_ns, sampled))

    def _calls(self) -> list[Call | InFlight]:
        return [*self._active, *self._plain()]

    def _in_progress(self) -> list[ActiveThread | ActiveTask]:
        found: list[ActiveThread | ActiveTask] = []
        for call in self._calls():
            if (thread := call.thread) is not None:
                found.append(
                    ActiveThread(thread.ident, thread.native_id, call.method_id, call.stage)
                )
            elif (task := call.task) is not None:
                found.append(ActiveTask(task, call.method_id, call.stage))
        return found

    def _look(self) -> None:
        for event in self._stacks.sample(time.monotonic_ns()):
            self._recorder.stack(event)
        self._busy.update(call.server_id for call in self._calls() if call.thread is not None)
        self._looks += 1

    def _poll_core(self) -> None:
        for server in self._servers:
            if server.present and server.core is not None:
                counting = server.part.enabled
                server.core.poll(time.monotonic_ns(), lambda s=server: s.seen, counting=counting)  # type: ignore[misc]

    def _sample_servers(self, now_ns: int) -> None:
        calls = self._calls()
        for server in self._servers:
            if server.present and server.part.enabled:
                self._sample_server(now_ns, server, calls)
        self._busy.clear()
        self._looks = 0
        seen = sum(server.seen for server in self._servers)
        self._sampled += (seen - self._seen) / self._recorder.every
        self._recorder.adapt(seen - self._seen, self._governor.ratio)
        self._seen = seen
        running = Counter(call.method_id for call in calls)
        for method_id in self._methods_running | running.keys():
            self._recorder.sample(MethodSample(now_ns, method_id, in_flight=running[method_id]))
        self._methods_running = set(running)

    def _sample_server(
        self, now_ns: int, server: ServerProbe, calls: Sequence[Call | InFlight]
    ) -> None:
        server_id = self._recorder.intern(NameKind.SERVER, server.name)
        own = [call for call in calls if call.server_id == server_id]
        workers = server.workers()
        busy = self._busy[server_id] / self._looks if self._looks and workers else None
        core = server.core if server.core is not None and not server.core.reason else None
        self._recorder.sample(
            ServerSample(
                now_ns,
                server_id,
                workers=workers,
                workers_busy=busy,
                queued=sum(call.stage == QUEUE for call in own) if workers else None,
                in_flight=len(own),
                oldest_age_ns=max((max(0, now_ns - call.arrival_ns) for call in own), default=0),
                seen=server.seen,
                core_waiting=core.waiting if core is not None else None,
                core_wait_ns=core.wait_ns if core is not None else None,
                core_abandoned=core.abandoned if core is not None else None,
            )
        )

    def _emit(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
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
        self._recorder.sample(
            ProbeSample(
                now_ns,
                0,
                enabled=not self._guard.paused,
                sample_every=self._recorder.every,
                cpu_ns=self._account.used_ns if self._account is not None else None,
                memory_bytes=self._memory_bytes(),
                budget_ratio=self._governor.ratio,
            )
        )

    def _memory_bytes(self) -> int:
        """The ring and the tables that grow with the traffic; every other one has a cap."""
        return (
            len(self._recorder.writer.buffer)
            + len(self._active) * CALL_BYTES
            + len(thread_state.serving_ids()) * THREAD_BYTES
        )


def _leave_signals_to_the_server() -> None:
    """A signal sent to the process must reach the thread that the server waits with."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
