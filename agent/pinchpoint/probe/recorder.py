"""Turns what the hooks saw into records. One per process; a fork makes its own.

Every request costs one event; a uniform sample of them also costs a detail with the
thread clocks of each stage. The sample is drawn by a multiplicative hash of a counter:
uniform, cheap, and not in step with periodic traffic.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pinchpoint.ring.writer import RingWriter
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema import wire
from pinchpoint.schema.events import ForwardEvent, LayerEvent, StackEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample

if TYPE_CHECKING:
    from pinchpoint.probe.call import Call

DETAILS_PER_SECOND = 25
"""Sampled requests a second. Each reads the scheduler's clock at every boundary, and every
such read gives up the interpreter lock: cheap alone, dear where threads compete for it. A
10 s window then holds 250, far above the 30 that a quantile claim needs."""

_HASH = 2654435761  # Knuth's multiplicative hash: 2**32 divided by the golden ratio
_HASH_MASK = 0xFFFFFFFF


class Recorder:
    """Writes records to the process' ring.

    Args:
        directory: where rings live.
        gc_watch: tells how long the collector has stopped the process so far.

    Raises:
        OSError: the ring cannot be made.
    """

    def __init__(self, directory: Path, gc_watch: GcWatch) -> None:
        self.directory = directory
        self.gc_watch = gc_watch
        self.writer = RingWriter(directory)
        self._next_request = count(1).__next__
        self.every = 1.0
        self._threshold = _HASH_MASK + 1
        writer = self.writer
        self._buffer = writer.buffer
        self._claim_event = writer.claim_event
        self._event_offset = writer.event_offset
        self._event_mask = writer.event_mask

    def intern(self, kind: NameKind, text: str, detail: int = 0) -> int:
        """The id of a name in this process' ring."""
        return self.writer.intern(kind, text, detail)

    def draw(self) -> float:
        """The weight of the next request's detail, or 0.0 if it is not sampled."""
        if (self._next_request() * _HASH) & _HASH_MASK < self._threshold:
            return self.every
        return 0.0

    def adapt(self, requests_per_second: float) -> None:
        """Sample so that about `DETAILS_PER_SECOND` details are written a second."""
        self.every = max(1.0, requests_per_second / DETAILS_PER_SECOND)
        self._threshold = int((_HASH_MASK + 1) / self.every)

    def request(self, call: Call, status: int, flags: int, send_ns: int) -> None:
        """Append a finished request."""
        sequence = self._claim_event()
        wire.REQUEST.pack_into(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * wire.EVENT_BYTES,
            sequence,
            wire.KIND_REQUEST,
            call.grpc_type,
            status,
            flags,
            call.method_id,
            call.model_id,
            call.server_id,
            call.batch_size,
            call.forwards,
            0,
            call.arrival_ns,
            call.queue_ns,
            call.receive_ns,
            call.handler_ns,
            send_ns,
            call.preprocess_ns,
            call.forward_ns,
            call.postprocess_ns,
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
            call.grpc_type,
            status,
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
            *stage_times,
            sequence,
        )

    def forward(self, event: ForwardEvent) -> None:
        """Append one forward of a model."""
        sequence = self._claim_event()
        wire.FORWARD.pack_into(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * wire.EVENT_BYTES,
            sequence,
            wire.KIND_FORWARD,
            0,
            *event,
            sequence,
        )

    def layer(self, event: LayerEvent) -> None:
        """Append a layer's own time in a sampled forward."""
        sequence = self._claim_event()
        wire.LAYER.pack_into(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * wire.EVENT_BYTES,
            sequence,
            wire.KIND_LAYER,
            0,
            *event,
            sequence,
        )

    def stack(self, event: StackEvent) -> None:
        """Append where a request thread was."""
        sequence = self._claim_event()
        wire.STACK.pack_into(
            self._buffer,
            self._event_offset + ((sequence - 1) & self._event_mask) * wire.EVENT_BYTES,
            sequence,
            wire.KIND_STACK,
            *event,
            sequence,
        )

    def sample(self, sample: Sample) -> None:
        """Append a sampler's reading."""
        self.writer.write_sample(sample)

    def close(self) -> None:
        """Release the ring; the agent reads what is left and removes the file."""
        self.writer.close()
