"""Turns what the hooks saw into records. One per process; a fork makes its own.

Every request costs one event; a uniform sample of them also costs a detail with the
thread clocks of each stage. The sample is drawn by a multiplicative hash of a counter:
uniform, cheap, and not in step with periodic traffic.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from pinchpoint.probe.shared_forwards import SharedForwards
from pinchpoint.probe.trace_parent import trace_halves
from pinchpoint.ring.writer import RingWriter
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema import wire
from pinchpoint.schema.events import (
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
    StackEvent,
    StageEvent,
    StreamEvent,
)
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample

if TYPE_CHECKING:
    from pinchpoint.probe.call import Call

DETAILS_PER_SECOND = 25
"""Sampled requests a second. Each reads the scheduler's clock at every boundary, and every
such read gives up the interpreter lock: cheap alone, dear where threads compete for it. A
10 s window then holds 250, far above the 30 that a quantile claim needs."""

HASH = 2654435761
"""Knuth's multiplicative hash: 2**32 divided by the golden ratio."""
HASH_MASK = 0xFFFFFFFF

# Read for every request: a name of this module costs half of an attribute of another.
_EVENT_BYTES = wire.EVENT_BYTES
_KIND_REQUEST = wire.KIND_REQUEST


class Models(Protocol):
    """Who picks up models that are new, right before the first handler that could use them."""

    pending: bool

    def before_handler(self) -> None:
        """Pick them up. Never raises."""


class Recorder:
    """Writes records to the process' ring.

    Args:
        directory: where rings live.
        gc_watch: tells how long the collector has stopped the process so far.
        models: asked before a handler runs, while it has something `pending`.

    Raises:
        OSError: the ring cannot be made.
    """

    def __init__(self, directory: Path, gc_watch: GcWatch, models: Models) -> None:
        self.directory = directory
        self.gc_watch = gc_watch
        self.models = models
        self.shared_forwards = SharedForwards()
        self.writer = RingWriter(directory)
        self._next_request = count(1).__next__
        self._drawn = 0
        self._sample_one_in(1)
        writer = self.writer
        self._buffer = writer.buffer
        self._claim_event = writer.claim_event
        self._event_offset = writer.event_offset
        self._event_mask = writer.event_mask
        self._pack_plain_request = wire.PLAIN_REQUEST.pack_into

    def intern(self, kind: NameKind, text: str, detail: int = 0) -> int:
        """The id of a name in this process' ring."""
        return self.writer.intern(kind, text, detail)

    def draw(self) -> int:
        """The weight of the next request's detail, or 0 if it is not sampled."""
        drawn = (self._next_request() * HASH) & HASH_MASK < self.threshold
        return self.weigh() if drawn else 0

    def weigh(self) -> int:
        """The weight of a request that has been drawn.

        The rate is adapted once a second only. A burst after a quiet second must not be
        sampled whole until then: with every two seconds' worth drawn, half as many are.
        Each request keeps the weight that it was drawn with, so sums stay right.
        """
        weight = self.every
        self._drawn += 1
        if self._drawn > 2 * DETAILS_PER_SECOND:
            self._drawn = 0
            self._sample_one_in(2 * weight)
        return weight

    def adapt(self, requests_per_second: float, ratio: float = 1.0) -> None:
        """Sample so that about `DETAILS_PER_SECOND` details are written a second.

        Args:
            requests_per_second: as they came in the last second.
            ratio: of that rate, as the governor allows.
        """
        self._drawn = 0
        self._sample_one_in(max(1, round(requests_per_second / (DETAILS_PER_SECOND * ratio))))

    def _sample_one_in(self, every: int) -> None:
        self.every = every
        self.threshold = (HASH_MASK + 1) // every

    def request(self, call: Call, status: int, now_ns: int) -> None:
        """Append a finished request. `now_ns`: its end; boundaries that it did not reach, which
        are 0, all lie there."""
        sequence = self._claim_event()
        start_ns = call.start_ns or now_ns
        behaviour_ns = call.behaviour_ns or now_ns
        end_ns = call.end_ns or now_ns
        if not call.forwards:
            self._pack_plain_request(
                self._buffer,
                self._event_offset + ((sequence - 1) & self._event_mask) * _EVENT_BYTES,
                sequence,
                _KIND_REQUEST,
                call.call_type,
                status,
                call.flags,
                call.method_id,
                call.server_id,
                call.arrival_ns,
                start_ns - call.arrival_ns,
                behaviour_ns - start_ns,
                end_ns - behaviour_ns,
                now_ns - end_ns,
                sequence,
            )
            return
        wire.REQUEST.pack_into(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * _EVENT_BYTES,
            sequence,
            _KIND_REQUEST,
            call.call_type,
            status,
            call.flags,
            call.method_id,
            call.model_id,
            call.server_id,
            call.batch_size,
            call.forwards,
            call.arrival_ns,
            start_ns - call.arrival_ns,
            behaviour_ns - start_ns,
            end_ns - behaviour_ns,
            now_ns - end_ns,
            call.preprocess_ns,
            call.batch_wait_ns,
            call.forward_ns,
            call.postprocess_ns,
            sequence,
        )

    def plain(self, times: list[Any], server_id: int, flags: int, now_ns: int) -> None:
        """Append a finished plain RPC (`grpc_plain`) with status OK.

        Args:
            times: arrival, worker's start, handler's start, handler's end, method.
            server_id: the name's id.
            flags: `schema.events.FLAG_…`.
            now_ns: its end.
        """
        arrival_ns, start_ns, behaviour_ns, end_ns, method, _ = times
        sequence = self._claim_event()
        self._pack_plain_request(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * _EVENT_BYTES,
            sequence,
            _KIND_REQUEST,
            0,
            0,
            flags,
            method.id,
            server_id,
            arrival_ns,
            start_ns - arrival_ns,
            behaviour_ns - start_ns,
            end_ns - behaviour_ns,
            now_ns - end_ns,
            sequence,
        )

    def detail(
        self,
        call: Call,
        status: int,
        latency_ns: int,
        gc_ns: int,
        switches: tuple[int, int],
        stage_times: list[int],
    ) -> None:
        """Append the sampled split of a request. `stage_times`: wall, CPU, run-queue of
        every stage in the order of `terms.STAGES`."""
        writer = self.writer
        sequence = writer.claim_detail()
        wire.DETAIL.pack_into(
            writer.buffer,
            writer.detail_offset + ((sequence - 1) & writer.detail_mask) * wire.DETAIL_BYTES,
            sequence,
            wire.KIND_DETAIL,
            call.call_type,
            status,
            call.flags,
            call.method_id,
            call.model_id,
            call.batch_size,
            call.weight,
            call.arrival_ns,
            latency_ns,
            gc_ns,
            call.request_bytes,
            call.response_bytes,
            *switches,
            *trace_halves(call.trace_parent),
            *stage_times,
            sequence,
        )

    def _event(self, layout: Struct, kind: int, *values: int) -> None:
        sequence = self._claim_event()
        layout.pack_into(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * wire.EVENT_BYTES,
            sequence,
            kind,
            *values,
            sequence,
        )

    def forward(self, event: ForwardEvent) -> None:
        """Append one forward of a model."""
        self._event(wire.FORWARD, wire.KIND_FORWARD, *event)

    def layer(self, event: LayerEvent) -> None:
        """Append a layer's own time in a sampled forward."""
        self._event(wire.LAYER, wire.KIND_LAYER, 0, *event)

    def stack(self, event: StackEvent) -> None:
        """Append where a request was."""
        self._event(wire.STACK, wire.KIND_STACK, *event)

    def stream(self, event: StreamEvent) -> None:
        """Append what went through a stream."""
        self._event(wire.STREAM, wire.KIND_STREAM, *event[:-1], *event.gaps)

    def stage(self, event: StageEvent) -> None:
        """Append one pass through a named stage."""
        self._event(wire.STAGE, wire.KIND_STAGE, 0, *event)

    def device(self, event: DeviceEvent) -> None:
        """Append a forward's time on its device."""
        self._event(wire.DEVICE, wire.KIND_DEVICE, 0, *event)

    def sample(self, sample: Sample) -> None:
        """Append a sampler's reading."""
        self.writer.write_sample(sample)

    def close(self) -> None:
        """Release the ring; the agent reads what is left and removes the file."""
        self.writer.close()
