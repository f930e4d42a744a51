"""Nanoseconds that the probe adds to one call, in the process, without the network.

Each figure is the minimum over repetitions of the mean of many calls: noise only adds.
"""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

from pinchpoint.probe.call import Call
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.thread_state import current
from pinchpoint.samplers.python_runtime import GcWatch

_CALLS = 20_000
_REPETITIONS = 7


def _nanoseconds(function: Callable[[], object]) -> float:
    times = timeit.repeat(function, number=_CALLS, repeat=_REPETITIONS)
    return min(times) / _CALLS * 1e9


def _request(recorder: Recorder, weight: float) -> Callable[[], None]:
    def request() -> None:
        call = Call(recorder, 1, 0, 1)
        call.weight = weight
        call.start()
        call.behaviour_begins()
        call.behaviour_ended()
        call.serialized()
        call.finish(0)
        call.leave_thread()

    return request


def measure() -> dict[str, float]:
    """Nanoseconds of each path."""
    with tempfile.TemporaryDirectory(dir=_memory_directory()) as directory:
        recorder = Recorder(Path(directory), GcWatch())
        figures = {
            "record of one request": _nanoseconds(_request(recorder, 0.0)),
            "record and detail of a sampled request": _nanoseconds(_request(recorder, 1.0)),
            "one reading of a thread's clocks": _nanoseconds(current().read),
            **_forward(recorder),
        }
        recorder.close()
    return figures


def _forward(recorder: Recorder) -> dict[str, float]:
    """What watching adds to a forward of a model that does nothing."""
    import torch

    from pinchpoint.probe.guard import Guard
    from pinchpoint.probe.torch_forward import TorchForwardProbe

    class Nothing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    x = torch.zeros(1)
    bare = Nothing()
    without = _nanoseconds(lambda: bare(x))
    probe = TorchForwardProbe(Guard().part("torch"))
    probe.install(torch, look_back=False)
    probe.start(recorder)
    try:
        watched = Nothing()
        probe.before_handler()
        return {"one forward": _nanoseconds(lambda: watched(x)) - without}
    finally:
        probe.uninstall()


def _memory_directory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
