"""What torch.cuda promises about events, streams and captures, without a GPU.

`tests/contract/test_cuda_events.py` holds it to the same checks as the real one. Time passes on
the devices when a test says so; the work of a stream runs in order, one piece after another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FakeDevice:
    """A device as a tensor names it."""

    index: int = 0
    type: str = "cuda"

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"


class FakeStream:
    """Work in order; it ends at `busy_until_ms` of the devices' clock."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.busy_until_ms = 0.0


class _Thread(threading.local):
    def __init__(self) -> None:
        self.device_index = 0
        self.streams: dict[int, FakeStream] = {}


class FakeCuda:
    """Stands where `torch.cuda` does.

    Attributes:
        now_ms: the devices' clock.
        contexts: devices that have a context.
        waits: times that anybody waited for a device.
        broken_captures: captures that a call from outside has broken.
        on_query: called in the middle of every query.
        error: raised by the next query or record.
    """

    def __init__(self, *, initialized: bool = True, capability: tuple[int, int] = (9, 0)) -> None:
        self.now_ms = 0.0
        self.contexts: set[int] = set()
        self.waits = 0
        self.broken_captures = 0
        self.on_query: Callable[[], None] = lambda: None
        self.error: Exception | None = None
        self._initialized = initialized
        self._capability = capability
        self._thread = _Thread()
        self._capturing: set[FakeStream] = set()
        self._broken: set[FakeStream] = set()
        self._queries = 0
        self._lock = threading.Lock()
        cuda = self

        class Event(_Event):
            """An event of this CUDA."""

            def __init__(self, enable_timing: bool = False) -> None:
                super().__init__(cuda, enable_timing)

        class CUDAGraph(_Graph):
            """A graph of this CUDA."""

            def __init__(self) -> None:
                super().__init__(cuda)

        self.Event = Event
        self.CUDAGraph = CUDAGraph

    # What torch.cuda has

    def is_initialized(self) -> bool:
        """Whether the process uses CUDA."""
        return self._initialized

    def set_device(self, device: FakeDevice) -> None:
        """The calling thread's device; it gets a context."""
        self._thread.device_index = device.index
        self.contexts.add(device.index)

    def current_stream(self, device: FakeDevice | None = None) -> FakeStream:
        """The calling thread's stream on a device."""
        of = device or FakeDevice(self._thread.device_index)
        return self._thread.streams.setdefault(of.index, FakeStream(of))

    def is_current_stream_capturing(self) -> bool:
        """Whether what the calling thread enqueues goes into a graph."""
        return self.current_stream() in self._capturing

    def get_device_capability(self, device: FakeDevice) -> tuple[int, int]:
        """Of any device."""
        self._unsafe()
        return self._capability

    def synchronize(self) -> None:
        """Wait for the device."""
        self.waits += 1

    # What tests need

    def launch(self, milliseconds: float, device: FakeDevice | None = None) -> None:
        """Enqueue work on the calling thread's stream."""
        stream = self.current_stream(device)
        self.contexts.add(stream.device.index)
        stream.busy_until_ms = max(self.now_ms, stream.busy_until_ms) + milliseconds

    def _unsafe(self) -> None:
        """A call that a capture in the default mode forbids to every thread."""
        with self._lock:
            if self._capturing:
                self.broken_captures += 1
                self._broken |= self._capturing
                raise RuntimeError("operation not permitted when stream is capturing")

    @contextmanager
    def _in_query(self) -> Iterator[None]:
        self._unsafe()
        with self._lock:
            self._queries += 1
        try:
            self.on_query()
            yield
            self._unsafe()  # a capture that began meanwhile is broken as well
        finally:
            with self._lock:
                self._queries -= 1

    def _fail(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


class _Event:
    def __init__(self, cuda: FakeCuda, enable_timing: bool) -> None:
        self._cuda = cuda
        self._timing = enable_timing
        self._at_ms: float | None = None

    def record(self, stream: FakeStream) -> None:
        """Reached when the stream's work so far has ended."""
        self._cuda._fail()
        self._cuda.contexts.add(stream.device.index)
        self._at_ms = max(self._cuda.now_ms, stream.busy_until_ms)

    def query(self) -> bool:
        """Whether the device has reached it; an event that was never recorded has been."""
        with self._cuda._in_query():
            self._cuda._fail()
            return self._at_ms is None or self._cuda.now_ms >= self._at_ms

    def elapsed_time(self, end: _Event) -> float:
        """Milliseconds between two events.

        Raises:
            RuntimeError: one of them has not been reached.
        """
        self._cuda.contexts.add(self._cuda._thread.device_index)
        if self._at_ms is None or end._at_ms is None or not (self._timing and end._timing):
            raise RuntimeError("Both events must be recorded, and made for timing.")
        if not (self.query() and end.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return end._at_ms - self._at_ms

    def synchronize(self) -> None:
        """Wait for it."""
        self._cuda.waits += 1


class _Graph:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self._stream: FakeStream | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """What the calling thread enqueues goes into the graph from now on.

        Raises:
            RuntimeError: its stream is captured already.
        """
        stream = self._cuda.current_stream()
        with self._cuda._lock:
            if stream in self._cuda._capturing:
                raise RuntimeError("the stream is captured already")
            self._cuda._capturing.add(stream)
        self._stream = stream

    def capture_end(self) -> None:
        """The graph is complete.

        Raises:
            RuntimeError: a call from outside has broken it.
        """
        stream, self._stream = self._stream, None
        assert stream is not None
        with self._cuda._lock:
            self._cuda._capturing.discard(stream)
            broken = stream in self._cuda._broken
            self._cuda._broken.discard(stream)
        if broken:
            raise RuntimeError("operation failed due to a previous error during capture")
