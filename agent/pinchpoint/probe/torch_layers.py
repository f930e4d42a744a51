"""A look inside one forward: every module's own CPU and wall time.

Two global hooks, in place only while a sampled forward runs and deaf to other threads.
Hooks left in place would cost 2 to 5 µs a module on every forward, even when idle.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic_ns, thread_time_ns
from typing import Any

INTERVAL_NS = 400_000_000
"""At least two sampled forwards a second (DESIGN section 3)."""

FORWARDS_BETWEEN = 4
"""Forwards of a model between two sampled ones, so that a slow service pays no more a forward
than a busy one."""

LAYERS_MAX = 64
"""Layers reported for one forward, the largest first."""


class LayerTime:
    """A module's own time in one forward, its children's left out."""

    __slots__ = ("calls", "cpu_ns", "wall_ns")

    def __init__(self) -> None:
        self.calls = self.cpu_ns = self.wall_ns = 0


class LayerSampler:
    """Samples layers of one forward at a time, at most every `INTERVAL_NS`."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._due: dict[int, tuple[int, int]] = {}
        self._registered: tuple[Any, ...] = ()

    def due(self, model_id: int, now_ns: int) -> bool:
        """Whether this forward of a model should be sampled; True at most once at a time.

        Never once dynamo is loaded: a global hook that is in place while some thread compiles
        breaks that graph, and with `fullgraph=True` it fails the server's call. What is
        compiled shows no layers anyway.
        """
        due_ns, forwards = self._due.get(model_id, (0, FORWARDS_BETWEEN))
        if now_ns < due_ns or forwards < FORWARDS_BETWEEN:
            self._due[model_id] = due_ns, forwards + 1
            return False
        return "torch._dynamo" not in sys.modules and self._busy.acquire(blocking=False)

    def begin(self, model_id: int, now_ns: int) -> Forward:
        """Hook the calling thread's forward. Only after `due()` said yes."""
        # A golden-ratio step between 0.4 and 0.65 s keeps out of step with the traffic.
        due_ns = now_ns + INTERVAL_NS + int(INTERVAL_NS * (now_ns * 0.618e-9 % 0.62))
        self._due[model_id] = due_ns, 0
        forward = Forward(threading.get_ident())
        from torch.nn.modules import module as module_hooks

        self._registered = (
            module_hooks.register_module_forward_pre_hook(forward.before),
            module_hooks.register_module_forward_hook(forward.after),
        )
        return forward

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


class Forward:
    """The module calls of one thread during one forward."""

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._open: list[tuple[int, int, int]] = []
        self._child_ns: list[tuple[int, int]] = []
        self.layers: dict[int, LayerTime] = {}

    def before(self, module: Any, _inputs: Any) -> None:
        """A module is about to run."""
        if threading.get_ident() == self._thread_id:
            self._child_ns.append((0, 0))
            self._open.append((id(module), thread_time_ns(), monotonic_ns()))

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


def largest(
    layers: dict[int, LayerTime], name_of: Callable[[int], str | None]
) -> list[tuple[str, LayerTime]]:
    """The layers of a forward by their names, most CPU first, at most `LAYERS_MAX`."""
    named = [(name, layer) for key, layer in layers.items() if (name := name_of(key))]
    named.sort(key=lambda item: -item[1].cpu_ns)
    return named[:LAYERS_MAX]
