"""One RPC on its way through the server: times at every boundary, then its records.

Boundaries are driven by `grpc_server` (arrival, worker start, handler, serialiser, end)
and by `torch_forward` (forwards within the handler). A sampled call reads the thread's
clocks at each of them; the others read the monotonic clock alone.
"""

from __future__ import annotations

from resource import RUSAGE_THREAD, getrusage
from time import monotonic_ns

from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.thread_state import Reading, ThreadState, current
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED
from pinchpoint.schema.terms import STAGE_INDEX
from pinchpoint.schema.wire import STAGE_COUNT, UNKNOWN_BYTES

QUEUE = STAGE_INDEX["queue"]
RECEIVE = STAGE_INDEX["receive"]
DESERIALIZE = STAGE_INDEX["deserialize"]
PREPROCESS = STAGE_INDEX["preprocess"]
FORWARD = STAGE_INDEX["forward"]
POSTPROCESS = STAGE_INDEX["postprocess"]
HANDLER = STAGE_INDEX["handler"]
SERIALIZE = STAGE_INDEX["serialize"]
SEND = STAGE_INDEX["send"]


class Call:
    """The state of one RPC between arrival and its record. Times in nanoseconds."""

    __slots__ = (
        "_behaviour_ns",
        "_context_switches",
        "_end_ns",
        "_first_forward_ns",
        "_gc_ns",
        "_mark",
        "_recorder",
        "_stage_times",
        "_start_ns",
        "arrival_ns",
        "batch_size",
        "behaviour_called",
        "deserialize_ns",
        "forward_ns",
        "forwards",
        "grpc_type",
        "handler_ns",
        "method_id",
        "model_id",
        "postprocess_ns",
        "preprocess_ns",
        "queue_ns",
        "receive_ns",
        "request_bytes",
        "response_bytes",
        "server_id",
        "stage",
        "thread",
        "weight",
    )

    def __init__(self, recorder: Recorder, method_id: int, grpc_type: int, server_id: int) -> None:
        self._recorder = recorder
        self.method_id = method_id
        self.grpc_type = grpc_type
        self.server_id = server_id
        self.weight = recorder.draw()
        self.thread: ThreadState | None = None
        self.stage = QUEUE
        self.behaviour_called = False
        self.model_id = self.batch_size = self.forwards = 0
        self.queue_ns = self.receive_ns = self.handler_ns = 0
        self.preprocess_ns = self.forward_ns = self.postprocess_ns = 0
        self.deserialize_ns = 0
        self.request_bytes = self.response_bytes = UNKNOWN_BYTES
        self._first_forward_ns = self._end_ns = 0
        self.arrival_ns = monotonic_ns()

    def start(self) -> None:
        """A worker has taken the call."""
        thread = current()
        self._start_ns = self._behaviour_ns = monotonic_ns()
        self.queue_ns = self._start_ns - self.arrival_ns
        if self.weight:
            self._stage_times = [0] * (STAGE_COUNT * 3)
            self._stage_times[QUEUE * 3] = self.queue_ns
            self._gc_ns = self._recorder.gc_watch.pause_ns
            usage = getrusage(RUSAGE_THREAD)
            self._context_switches = (usage.ru_nvcsw, usage.ru_nivcsw)
            self._mark: Reading = thread.read()
        self.stage = RECEIVE
        self.thread = thread
        thread.call = self

    def _enter(self, stage: int) -> None:
        """Sampled calls: charge the time since the last boundary and begin `stage`."""
        mark = self.thread.read()  # type: ignore[union-attr]  # set by start()
        times, last, at = self._stage_times, self._mark, self.stage * 3
        times[at] += mark.wall_ns - last.wall_ns
        times[at + 1] += mark.cpu_ns - last.cpu_ns
        times[at + 2] += mark.runqueue_ns - last.runqueue_ns
        self._mark = mark
        self.stage = stage

    def behaviour_begins(self) -> None:
        """The request has been received; the handler is about to run."""
        self.behaviour_called = True
        self._behaviour_ns = monotonic_ns()
        self.receive_ns = self._behaviour_ns - self._start_ns
        if self.weight:
            self._enter(PREPROCESS)
        else:
            self.stage = PREPROCESS

    def forward_begins(self) -> None:
        """An outermost module is about to run in the handler's thread."""
        if not self._first_forward_ns:
            self._first_forward_ns = monotonic_ns()
        if self.weight:
            self._enter(FORWARD)
        else:
            self.stage = FORWARD

    def forward_ended(self, model_id: int, batch_size: int, wall_ns: int) -> None:
        """The module has returned or raised."""
        self.forwards += 1
        self.model_id = model_id
        self.batch_size = batch_size
        self.forward_ns += wall_ns
        if self.weight:
            self._enter(POSTPROCESS)
        else:
            self.stage = POSTPROCESS

    def behaviour_ended(self) -> None:
        """The handler has returned or raised."""
        self._end_ns = monotonic_ns()
        self.handler_ns = self._end_ns - self._behaviour_ns
        if self.forwards:
            self.preprocess_ns = self._first_forward_ns - self._behaviour_ns
            self.postprocess_ns = max(0, self.handler_ns - self.preprocess_ns - self.forward_ns)
        if self.weight:
            self._enter(SERIALIZE)
        else:
            self.stage = SERIALIZE

    def serialized(self) -> None:
        """The response is bytes; what follows is handing it to the core."""
        if self.weight:
            self._enter(SEND)
        else:
            self.stage = SEND

    def finish(self, status: int) -> None:
        """The RPC is over on this side: write its records."""
        end_ns = monotonic_ns()
        if not self.behaviour_called:
            self.receive_ns = end_ns - self._start_ns
        send_ns = end_ns - self._end_ns if self._end_ns else 0
        flags = FLAG_BEHAVIOUR_CALLED if self.behaviour_called else 0
        self._recorder.request(self, status, flags, send_ns)
        if self.weight:
            self._enter(SEND)
            self._write_detail(status, end_ns)

    def _write_detail(self, status: int, end_ns: int) -> None:
        times = self._stage_times
        if self.behaviour_called and not self.forwards:
            _move(times, PREPROCESS, HANDLER)
        # Deserialising ran on the serving thread while this one waited in `receive`; its
        # CPU is not on this thread's clock, and it does nothing but compute.
        deserialize_ns = min(self.deserialize_ns, times[RECEIVE * 3])
        times[RECEIVE * 3] -= deserialize_ns
        times[DESERIALIZE * 3] = times[DESERIALIZE * 3 + 1] = deserialize_ns
        usage = getrusage(RUSAGE_THREAD)
        voluntary, involuntary = self._context_switches
        self._recorder.detail(
            self,
            status,
            end_ns - self.arrival_ns,
            self._recorder.gc_watch.pause_ns - self._gc_ns,
            (usage.ru_nvcsw - voluntary, usage.ru_nivcsw - involuntary),
            times,
        )

    def leave_thread(self) -> None:
        """The worker is free for the next call."""
        if self.thread is not None:
            self.thread.call = None


def _move(times: list[int], source: int, target: int) -> None:
    for index in range(3):
        times[target * 3 + index] += times[source * 3 + index]
        times[source * 3 + index] = 0
