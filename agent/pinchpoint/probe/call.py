"""One request on its way through the server: times at every boundary, then its records.

Boundaries are driven by the server probes (arrival, worker start, handler, end) and by
`torch_forward` (forwards within the handler). Every request reads the monotonic clock alone;
a sampled one also has `clocks`.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Any

from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.stage_clocks import StageClocks
from pinchpoint.probe.stream_meter import StreamMeter
from pinchpoint.probe.thread_state import ThreadState
from pinchpoint.schema.events import (
    FLAG_BEHAVIOUR_CALLED,
    FLAG_SHARED_FORWARD,
)
from pinchpoint.schema.terms import STAGE_INDEX
from pinchpoint.schema.wire import UNKNOWN_BYTES

QUEUE = STAGE_INDEX["queue"]
RECEIVE = STAGE_INDEX["receive"]
DESERIALIZE = STAGE_INDEX["deserialize"]
PREPROCESS = STAGE_INDEX["preprocess"]
BATCH_WAIT = STAGE_INDEX["batch_wait"]
FORWARD = STAGE_INDEX["forward"]
POSTPROCESS = STAGE_INDEX["postprocess"]
HANDLER = STAGE_INDEX["handler"]
SERIALIZE = STAGE_INDEX["serialize"]
SEND = STAGE_INDEX["send"]


class Call:
    """The state of one request between arrival and its record. Times in nanoseconds.

    What every request reads is set by the constructor (an attribute of the class would be read
    five times slower); what few need is a class attribute until then.

    Attributes:
        weight: number of requests that this one's detail stands for; 0 if it is not sampled.
        thread: the thread that serves it, once one does.
        task: the asyncio task that serves it, once one does.
        stage: where it is, an index in `terms.STAGES`.
        over: whether its record has been written: a task that it started may outlive it.
        flags: `schema.events.FLAG_…`.
        aborted: the status that the framework itself gave up with, if it did.
        trace_parent: of a sampled request, the W3C header as it came, if it did.
    """

    task: Any = None
    over = False
    model_id = batch_size = 0
    preprocess_ns = batch_wait_ns = forward_ns = postprocess_ns = 0
    deserialize_ns = first_forward_ns = 0
    request_bytes = response_bytes = UNKNOWN_BYTES
    trace_parent: str | bytes = ""

    def __init__(self, recorder: Recorder, method_id: int, call_type: int, server_id: int) -> None:
        self.recorder = recorder
        self.method_id = method_id
        self.call_type = call_type
        self.server_id = server_id
        self.weight = self.flags = self.forwards = 0
        self.stage = QUEUE
        self.start_ns = self.behaviour_ns = self.end_ns = 0
        self.thread: ThreadState | None = None
        self.clocks: StageClocks | None = None
        self.stream: StreamMeter | None = None
        self.aborted: int | None = None
        self.arrival_ns = monotonic_ns()

    def meter(self) -> StreamMeter:
        """Counts the request's messages from now on; its record is written by `finish`."""
        self.stream = StreamMeter(self.recorder, self.method_id, self.call_type, self.arrival_ns)
        return self.stream

    def start(self, thread: ThreadState) -> None:
        """A worker has taken the request. From now on a sampled one reads the thread's clocks at
        every boundary."""
        self.start_ns = monotonic_ns()
        self.stage = RECEIVE
        if self.weight:
            self.clocks = StageClocks(
                thread, RECEIVE, self.start_ns - self.arrival_ns, self.recorder.gc_watch.pause_ns
            )

    def enter(self, stage: int) -> None:
        """A boundary between two stages."""
        self.stage = stage
        if self.clocks is not None:
            self.clocks.enter(stage)

    def behaviour_begins(self) -> None:
        """The request has been received; the handler is about to run."""
        self.flags |= FLAG_BEHAVIOUR_CALLED
        if self.recorder.models.pending:
            self.recorder.models.before_handler()
        self.stage = PREPROCESS
        self.behaviour_ns = monotonic_ns()
        if self.clocks is not None:
            self.clocks.enter(PREPROCESS)

    def forward_begins(self) -> None:
        """An outermost module is about to run for this request."""
        if not self.first_forward_ns:
            self.first_forward_ns = monotonic_ns()
        self.enter(FORWARD)

    def forward_ended(self, model_id: int, batch_size: int, wall_ns: int) -> None:
        """The module has returned or raised."""
        self.forwards += 1
        self.model_id = model_id
        self.batch_size = batch_size
        self.forward_ns += wall_ns
        self.enter(POSTPROCESS)

    def behaviour_ended(self) -> None:
        """The handler has returned or raised; of a stream, its iteration."""
        self.end_ns = monotonic_ns()
        self.stage = SERIALIZE
        if self.clocks is not None:
            self.clocks.enter(SERIALIZE)

    def finish(self, status: int) -> None:
        """The request is over on this side: write its records.

        Args:
            status: a gRPC code, or an HTTP one for the HTTP types.
        """
        self.over = True
        now_ns = monotonic_ns()
        if self.forwards:
            self._split_handler(self.end_ns or now_ns)
        elif self.behaviour_ns and self.recorder.shared_forwards.last_end_ns > self.behaviour_ns:
            self._look_for_shared(self.end_ns or now_ns)
        self.recorder.request(self, status, now_ns)
        if self.stream is not None:
            self.stream.finish()
        if self.clocks is not None:
            self._write_detail(self.clocks, status, now_ns)

    def _split_handler(self, end_ns: int) -> None:
        # An interceptor may run a model before the handler, or instead of it.
        begin_ns = self.behaviour_ns or self.first_forward_ns
        self.preprocess_ns = max(0, self.first_forward_ns - begin_ns)
        handler_ns = end_ns - begin_ns
        self.postprocess_ns = max(0, handler_ns - self.preprocess_ns - self.forward_ns)

    def _look_for_shared(self, end_ns: int) -> None:
        """Did the handler wait for a forward that a batcher's thread ran for many?"""
        forwards, clocks = self.recorder.shared_forwards, self.clocks
        shared = forwards.of(self.behaviour_ns, end_ns)
        if shared is None:
            return
        if clocks is not None:
            forwards.waits[self.method_id] = clocks.blocked_ns(PREPROCESS) >= shared.wall_ns
        if not forwards.waits.get(self.method_id):
            return
        self.flags |= FLAG_SHARED_FORWARD
        self.forwards = 1
        self.model_id = shared.model_id
        self.batch_size = shared.batch_size
        self.first_forward_ns = shared.start_ns
        self.forward_ns = shared.wall_ns
        self._split_handler(end_ns)
        if clocks is not None:
            # The thread's own work is on its clock; the rest of the time before the forward is
            # the wait for the batch.
            clocks.move_blocked(PREPROCESS, FORWARD, self.forward_ns)
            after_ns = clocks.move_busy(PREPROCESS, POSTPROCESS, self.postprocess_ns)
            clocks.move_blocked(PREPROCESS, POSTPROCESS, self.postprocess_ns - after_ns)
            self.batch_wait_ns = min(self.preprocess_ns, clocks.blocked_ns(PREPROCESS))
            clocks.move_blocked(PREPROCESS, BATCH_WAIT, self.batch_wait_ns)
            self.preprocess_ns -= self.batch_wait_ns

    def _write_detail(self, clocks: StageClocks, status: int, end_ns: int) -> None:
        clocks.enter(SEND)
        times = clocks.times
        if self.behaviour_ns and not self.forwards:
            clocks.move(PREPROCESS, HANDLER)
        # Deserialising ran on the serving thread while this one waited in `receive`; its
        # CPU is not on this thread's clock, and it does nothing but compute.
        deserialize_ns = min(self.deserialize_ns, times[RECEIVE * 3])
        times[RECEIVE * 3] -= deserialize_ns
        times[DESERIALIZE * 3] += deserialize_ns
        times[DESERIALIZE * 3 + 1] += deserialize_ns
        self.recorder.detail(
            self,
            status,
            end_ns - self.arrival_ns,
            self.recorder.gc_watch.pause_ns - clocks.gc_ns,
            clocks.switches(),
            times,
        )
