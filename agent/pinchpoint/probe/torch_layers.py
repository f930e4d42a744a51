"""A look inside one forward: every module's own CPU and wall time.

Two global hooks, in place only while a sampled forward runs and deaf to other threads.
Hooks left in place would cost 2 to 5 µs a module on every forward, even when idle.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns, thread_time_ns
from typing import Any

from pinchpoint.samplers.source import Intern
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample, SignalSample

COST_RATIO = 0.01
"""Of the time in a model's forwards, what the samples of its layers may cost on average."""

DISPATCH_FACTOR = 3
"""What a hooked module costs in all, by what our hooks see of it: the rest is torch's slower way
of calling it. Measured on models of 7 and 50 modules: 4.7 us a module, 1.5 of them in the hooks."""

LAYERS_MAX = 64
"""Layers reported for one forward, the largest first."""

SIGNAL = "torch_layers"
COMPILER_LOADED = (
    "torch.compile is loaded: a hook in place while a thread compiles would break its graph"
)


class LayerTime:
    """A module's own time in one forward, its children's left out."""

    __slots__ = ("calls", "cpu_ns", "wall_ns")

    def __init__(self) -> None:
        self.calls = self.cpu_ns = self.wall_ns = 0


class LayerSampler:
    """Samples the layers of one forward at a time."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._registered: tuple[Any, ...] = ()
        self._samples = 0

    def allowance_ns(self, spent_ns: int) -> int:
        """What forwards that took so long earn for the samples of their layers."""
        return int(spent_ns * COST_RATIO)

    def begin(self) -> Forward | None:
        """Hook the calling thread's forward, unless another is sampled right now.

        Never once dynamo is loaded: a global hook that is in place while some thread compiles
        breaks that graph, and with `fullgraph=True` it fails the server's call. What is
        compiled shows no layers anyway.
        """
        if "torch._dynamo" in sys.modules or not self._busy.acquire(blocking=False):
            return None
        try:
            self._samples += 1
            forward = Forward(self._samples & 0xFFFFFFFF)
            with forward.costing():
                self._register(forward)
        except BaseException:
            self.end()
            raise
        return forward

    def _register(self, forward: Forward) -> None:
        from torch.nn.modules import module as module_hooks

        before = module_hooks.register_module_forward_pre_hook(forward.before)
        self._registered = (before,)
        self._registered = (before, module_hooks.register_module_forward_hook(forward.after))

    def end(self) -> None:
        """Remove the hooks."""
        self._remove()
        self._busy.release()

    def forget(self) -> None:
        """After a fork: the forward that was being sampled goes on in the parent only."""
        self._remove()
        self._busy = threading.Lock()

    def _remove(self) -> None:
        registered, self._registered = self._registered, ()
        for handle in registered:
            handle.remove()

    def signals(self, now_ns: int, intern: Intern) -> list[Sample]:
        """Whether layers can be sampled in this process, and why not."""
        signal = intern(NameKind.OTHER, SIGNAL)
        if "torch._dynamo" not in sys.modules:
            return [SignalSample(now_ns, signal, available=1)]
        reason_id = intern(NameKind.OTHER, COMPILER_LOADED)
        return [SignalSample(now_ns, signal, available=0, reason_id=reason_id)]


class Forward:
    """The module calls of one thread during one forward.

    Attributes:
        number: of the sample.
        layers: by the id of the module.
        cost_ns: what the sample has cost so far, about.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._thread_id = threading.get_ident()
        self._open: list[tuple[int, int, int]] = []
        self._child_ns: list[tuple[int, int]] = []
        self.layers: dict[int, LayerTime] = {}
        self.cost_ns = 0

    @contextmanager
    def costing(self) -> Iterator[None]:
        """Count the time of a block of our own as the sample's cost."""
        begin_ns = monotonic_ns()
        try:
            yield
        finally:
            self.cost_ns += monotonic_ns() - begin_ns

    def before(self, module: Any, _inputs: Any) -> None:
        """A module is about to run."""
        if threading.get_ident() == self._thread_id:
            entered_ns = monotonic_ns()
            self._child_ns.append((0, 0))
            cpu_ns, wall_ns = thread_time_ns(), monotonic_ns()
            self._open.append((id(module), cpu_ns, wall_ns))
            self.cost_ns += DISPATCH_FACTOR * (wall_ns - entered_ns)

    def after(self, module: Any, _inputs: Any, _output: Any) -> None:
        """A module has returned. Modules that raised stay open and are dropped here."""
        if threading.get_ident() != self._thread_id:
            return
        cpu_ns, wall_ns = thread_time_ns(), monotonic_ns()
        child_cpu_ns = child_wall_ns = 0
        while self._open:
            module_id, cpu_begin_ns, wall_begin_ns = self._open.pop()
            # The children of a module that raised become those of the one that caught it.
            cpu_below_ns, wall_below_ns = self._child_ns.pop()
            child_cpu_ns += cpu_below_ns
            child_wall_ns += wall_below_ns
            if module_id == id(module):
                break
        else:
            return
        layer = self.layers.setdefault(module_id, LayerTime())
        spent_cpu_ns, spent_wall_ns = cpu_ns - cpu_begin_ns, wall_ns - wall_begin_ns
        layer.calls += 1
        layer.cpu_ns += max(0, spent_cpu_ns - child_cpu_ns)
        layer.wall_ns += max(0, spent_wall_ns - child_wall_ns)
        if self._child_ns:
            parent_cpu_ns, parent_wall_ns = self._child_ns[-1]
            self._child_ns[-1] = (parent_cpu_ns + spent_cpu_ns, parent_wall_ns + spent_wall_ns)
        self.cost_ns += DISPATCH_FACTOR * (monotonic_ns() - wall_ns)

    def largest(self, model: Any) -> list[tuple[str, LayerTime]]:
        """The layers by their names in the model, most CPU first, at most `LAYERS_MAX`."""
        names = {id(child): name or "(model)" for name, child in model.named_modules()}
        named = [(name, layer) for key, layer in self.layers.items() if (name := names.get(key))]
        named.sort(key=lambda item: -item[1].cpu_ns)
        return named[:LAYERS_MAX]
