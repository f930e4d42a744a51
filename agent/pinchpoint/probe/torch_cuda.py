"""Forwards timed on their CUDA device, by events that are polled and never waited for.

Theory of operation. A request's thread records two events on its stream, around a forward that
is looked at anyway. The sampler thread asks later whether the device has reached them, and
takes their distance. Nobody ever waits for the device.

While any stream of the process is captured into a CUDA graph, the default mode of a capture
forbids every thread to query an event: it would fail, and break the capture. So the process'
captures are counted where torch begins and ends them, and `_lock` makes both sides exclusive:

* a capture is counted under the lock, before it begins. If the sampler thread is in the middle
  of a query, the capture waits for this one query, and never longer;
* the sampler thread takes the lock for each single query, looks at the count under it and
  stops at once if it is not zero. When it goes to query, no capture can begin before it has
  returned;
* a request's thread records under the lock too, but does not wait for it: if it is taken, this
  forward is not timed.

Captures that other libraries begin behind torch's back are seen on the recording thread's own
stream only.

A query makes no context on another device: the sampler thread first moves to the device of the
events, which has one, and stays there.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pinchpoint.probe.guard import Part
from pinchpoint.probe.patches import Patches
from pinchpoint.samplers.source import Intern
from pinchpoint.schema.events import DeviceEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample, SignalSample

TIMINGS_MAX = 32
"""Pairs of events for each device: some seconds of looks. Without a free one a forward is not
timed."""

FORGET_NS = 10_000_000_000
"""When a forward that its device has not ended is given up: it hangs."""

DEVICE_TYPE = "cuda"
"""Of the devices whose events these are; AMD's go by the same name."""

SIGNAL = "torch_device_time"


class Timing:
    """Two events around a forward. Used over and over."""

    __slots__ = ("device", "end", "start", "stream")

    def __init__(self, device: Any, event: Callable[..., Any]) -> None:
        self.device = device
        self.start = event(enable_timing=True)
        self.end = event(enable_timing=True)
        self.stream: Any = None


class Pending(NamedTuple):
    """A forward whose time on its device is not known yet."""

    timing: Timing
    model_id: int
    device_id: int
    batch_size: int
    start_ns: int
    host_ns: int


class _Pool:
    """The timings of one device: free, or under way in the order of their forwards."""

    def __init__(self) -> None:
        self.free: deque[Timing] = deque()
        self.pending: deque[Pending] = deque()
        self.made = 0


class DeviceTimes:
    """Device times of the forwards of this process.

    Args:
        part: the guard's part.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self._cuda: Any = None
        self._lock = threading.Lock()
        self._captures = 0
        self._pools: defaultdict[Any, _Pool] = defaultdict(_Pool)
        self._capabilities: dict[Any, tuple[int, int]] = {}
        self._patches = Patches()
        self._lost: list[object] = []

    def install(self, torch: Any) -> None:
        """Count captures from now on. CUDA itself is not touched before the server does."""
        self._cuda = torch.cuda
        graph = getattr(torch.cuda, "CUDAGraph", None)
        if graph is None:
            return
        begin, end = graph.capture_begin, graph.capture_end

        def capture_begin(graph: Any, *args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._captures += 1
            try:
                return begin(graph, *args, **kwargs)
            except BaseException:
                self._captured()
                raise

        def capture_end(graph: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return end(graph, *args, **kwargs)
            finally:
                self._captured()

        self._patches.replace(graph, "capture_begin", capture_begin)
        self._patches.replace(graph, "capture_end", capture_end)

    def _captured(self) -> None:
        with self._lock:
            self._captures = max(0, self._captures - 1)

    def uninstall(self) -> None:
        """Put back what was replaced."""
        self.part.enabled = False
        self._patches.undo()

    def forget(self) -> None:
        """After a fork: CUDA does not work in the child, so nothing of it may even be freed."""
        self._lost.append(self._pools)
        self._pools = defaultdict(_Pool)
        self._lock = threading.Lock()
        self._captures = 0

    @contextmanager
    def _exclusively(self, *, wait: bool) -> Iterator[bool]:
        """Whether CUDA may be asked within the block: no capture runs, and none can begin."""
        lock = self._lock
        if not lock.acquire(blocking=wait):
            yield False
            return
        try:
            yield not self._captures
        finally:
            lock.release()

    def begin(self, device: Any) -> Timing | None:
        """Record the start of a forward on its device, if that is a CUDA device."""
        if device is None or device.type != DEVICE_TYPE or not self.part.enabled:
            return None
        try:
            return self._begin(device) if self._cuda.is_initialized() else None
        except Exception as error:
            self.part.trip(error)
            return None

    def _begin(self, device: Any) -> Timing | None:
        pool = self._pools[device]
        if pool.free:
            timing = pool.free.popleft()
        elif pool.made < TIMINGS_MAX:
            pool.made += 1
            timing = Timing(device, self._cuda.Event)
        else:
            return None
        timing.stream = self._cuda.current_stream(device)
        if self._record(timing.start, timing.stream):
            return timing
        pool.free.append(timing)
        return None

    def end(self, timing: Timing) -> bool:
        """Record the end of the forward. False if that could not be: it is not timed."""
        try:
            if self._record(timing.end, timing.stream):
                return True
            self._pools[timing.device].free.append(timing)
        except Exception as error:
            self.part.trip(error)
        return False

    def _record(self, event: Any, stream: Any) -> bool:
        with self._exclusively(wait=False) as free:
            if not free or self._cuda.is_current_stream_capturing():
                return False
            event.record(stream)
            return True

    def submit(self, pending: Pending) -> None:
        """Report this forward once its device has ended it."""
        self._pools[pending.timing.device].pending.append(pending)

    def poll(self, now_ns: int) -> list[DeviceEvent]:
        """The forwards that their devices have ended since the last poll, for one thread.

        Raises:
            RuntimeError: CUDA has failed.
        """
        found: list[DeviceEvent] = []
        for pool in list(self._pools.values()):
            while pool.pending:
                pending = pool.pending[0]
                device_ns = self._device_ns(pending.timing)
                if device_ns is not None:
                    found.append(DeviceEvent(*pending[1:], device_ns))
                elif now_ns - pending.start_ns < FORGET_NS:
                    break
                pool.pending.popleft()
                pool.free.append(pending.timing)
        return found

    def _device_ns(self, timing: Timing) -> int | None:
        with self._exclusively(wait=True) as free:
            if not free:
                return None
            self._cuda.set_device(timing.device)
            if not timing.end.query():
                return None
            elapsed_ms: float = timing.start.elapsed_time(timing.end)
            return max(0, round(elapsed_ms * 1e6))

    def capability(self, device: Any) -> tuple[int, int] | None:
        """The compute capability of a CUDA device in use; None while it cannot be asked."""
        if not self.part.enabled or self._cuda is None or not self._cuda.is_initialized():
            return None
        if device not in self._capabilities:
            with self._exclusively(wait=True) as free:
                if not free:
                    return None
                self._capabilities[device] = self._cuda.get_device_capability(device)
        return self._capabilities[device]

    def signals(self, now_ns: int, intern: Intern) -> list[Sample]:
        """That device times are measured, once the process uses CUDA."""
        if self._cuda is None or not self._cuda.is_initialized():
            return []
        return [SignalSample(now_ns, intern(NameKind.OTHER, SIGNAL), available=1)]
