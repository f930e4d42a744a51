"""Events: what the probe writes as it happens. Times are CLOCK_MONOTONIC nanoseconds.

A duration that was not measured is 0 here and the flag that says so is clear; the
sampled `RequestDetail` carries the exact split.
"""

from __future__ import annotations

from typing import NamedTuple

FLAG_BEHAVIOUR_CALLED = 1
"""The handler ran. Clear: the RPC died while it was queued or being received."""
FLAG_REJECTED = 2
"""Refused before it reached the pool (unknown method, concurrency limit)."""
FLAG_RESPONDED = 4
"""A response message was handed to the core."""
FLAG_SHARED_FORWARD = 8
"""`forward_ns` is of a forward that another thread ran, for a batch of requests."""
FLAG_ASYNC = 16
"""Handled on an event loop: `queue_ns` is 0 where a worker thread was not needed."""
FLAG_DESERIALIZE_FAILED = 32
FLAG_SERIALIZE_FAILED = 64
FLAG_DEAD_ON_ARRIVAL = 128
"""Its deadline had passed when Python first saw it: it died in the gRPC core."""

FORWARD_OUTSIDE = 1
"""The forward's thread served no request: a batcher's, or the server's own."""
FORWARD_GRAD = 2
"""Gradients were being recorded."""
FORWARD_TRAINING = 4
"""The model was in training mode."""


class RequestEvent(NamedTuple):
    """One finished request. Written for every request.

    `queue_ns` runs from the pool's `submit` to the worker's first instruction,
    `receive_ns` from there to the handler, `handler_ns` over the handler, `send_ns`
    from its return to the hand-over of the status to the gRPC core. `preprocess_ns`,
    `batch_wait_ns`, `forward_ns` and `postprocess_ns` split the handler where torch was seen
    in it (`forwards` > 0); of a shared forward the unsampled request knows only that
    preparing and waiting for the batch took `preprocess_ns` together.

    `call_type` indexes `terms.CALL_TYPES`; `status` is a gRPC code or an HTTP one.
    """

    call_type: int
    status: int
    flags: int
    method_id: int
    model_id: int
    server_id: int
    batch_size: int
    forwards: int
    arrival_ns: int
    queue_ns: int
    receive_ns: int
    handler_ns: int
    send_ns: int
    preprocess_ns: int
    batch_wait_ns: int
    forward_ns: int
    postprocess_ns: int

    @property
    def service_ns(self) -> int:
        """How long the request held a worker."""
        return self.receive_ns + self.handler_ns + self.send_ns

    @property
    def latency_ns(self) -> int:
        """Arrival to sent, waiting included."""
        return self.queue_ns + self.service_ns


class ForwardEvent(NamedTuple):
    """One call of an outermost torch module, seen from the host."""

    flags: int
    model_id: int
    device_id: int
    batch_size: int
    thread_id: int
    start_ns: int
    wall_ns: int


class LayerEvent(NamedTuple):
    """A module's own time (its children's left out) in one sampled forward.

    `cpu_ns` is the calling thread's CPU time: wall time would charge a layer with the
    waits of the thread. `calls` counts invocations within the forward.
    """

    model_id: int
    layer_id: int
    calls: int
    sample_id: int
    time_ns: int
    cpu_ns: int
    wall_ns: int


class StackEvent(NamedTuple):
    """Where one request thread was when the stack sampler looked.

    `stage` and `category` index `terms.STAGES` and `terms.WAIT_CATEGORIES`.
    """

    category: int
    stage: int
    thread_id: int
    method_id: int
    location_id: int
    time_ns: int


class StreamEvent(NamedTuple):
    """What went through a stream since its last such event: at its end, and every second.

    `first_message_ns` is the time from the arrival to the first response message, in the event
    that follows it, else 0. `gaps` counts the times between two response messages by
    `terms.GAP_BOUNDS_NS`, the last entry those above all bounds; `gap_ns` is their sum.
    """

    call_type: int
    method_id: int
    received: int
    sent: int
    time_ns: int
    first_message_ns: int
    gap_ns: int
    gaps: tuple[int, ...]


class StageEvent(NamedTuple):
    """One pass through a stage that the server's code names with `pinchpoint.stage()`.

    `self_ns` leaves out the named stages inside it. `method_id` is 0 outside of requests.
    """

    stage_id: int
    method_id: int
    thread_id: int
    time_ns: int
    wall_ns: int
    self_ns: int


class DeviceEvent(NamedTuple):
    """A sampled forward's time on its device, known after the forward's own event.

    `host_ns` is the host's time in the call, which for an asynchronous device is that of
    enqueueing; `device_ns` runs between two device events around it.
    """

    model_id: int
    device_id: int
    batch_size: int
    start_ns: int
    host_ns: int
    device_ns: int


class StageTime(NamedTuple):
    """One stage of one request. `wall = cpu + runqueue + blocked`, nanoseconds."""

    wall_ns: int
    cpu_ns: int
    runqueue_ns: int

    @property
    def blocked_ns(self) -> int:
        """Neither on a CPU nor waiting for one; never negative."""
        return max(0, self.wall_ns - self.cpu_ns - self.runqueue_ns)


class RequestDetail(NamedTuple):
    """The uniform sample of requests: thread clocks read at every stage boundary.

    `weight` is the number of requests this one stands for. `stages` has one entry per
    `terms.STAGES`, zeros where a stage was not seen. Sizes are None where no
    (de)serialiser of ours saw the message. `flags` are the request's. `trace_id` is that of the
    W3C `traceparent` that the request carried, 0 if none.
    """

    call_type: int
    status: int
    method_id: int
    model_id: int
    batch_size: int
    weight: float
    arrival_ns: int
    latency_ns: int
    gc_ns: int
    request_bytes: int | None
    response_bytes: int | None
    voluntary_switches: int
    involuntary_switches: int
    stages: tuple[StageTime, ...]
    flags: int = 0
    trace_id: int = 0


Event = (
    RequestEvent | ForwardEvent | LayerEvent | StackEvent | StreamEvent | StageEvent | DeviceEvent
)
