"""torch models, seen through the outermost module of each forward.

The module's own `_compiled_call_impl` slot takes a closure that `Module.__call__` finds
first. Unlike hooks or a replaced `forward` this survives torch.compile (no graph break),
scripting, tracing, export, pickling and deepcopy (INPROCESS section 4): while torch is
compiling or tracing the closure steps aside, and copies do not carry it.
Not seen: `module.forward(x)` called directly.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import Any
from weakref import ref

from pinchpoint.probe.call import Call
from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.thread_state import ThreadState, current
from pinchpoint.probe.torch_layers import LayerSampler, LayerTime, largest
from pinchpoint.probe.torch_models import DESCENTS_MAX, ModelFinder, descendants
from pinchpoint.schema.events import ForwardEvent, LayerEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import ModelSample, TorchSample

_SLOT = "_compiled_call_impl"

UNCALLED_REQUESTS = 20
"""Requests without a forward after which the children of the roots are watched too."""


class TorchForwardProbe:
    """Every model of this process.

    Args:
        part: the guard's part for this hook.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.recorder: Recorder | None = None
        self._finder: ModelFinder | None = None
        self._layers = LayerSampler()
        self._watched: dict[int, tuple[ref[Any], Callable[..., Any]]] = {}
        self._undo: Callable[[], None] | None = None
        self._descriptions: dict[int, ModelSample] = {}
        self._undescribed: list[tuple[ref[Any], int]] = []
        self._forwards = 0
        self._requests_without = 0
        self._level = 0
        self._samples = 0

    def install(self, torch: Any, *, look_back: bool) -> None:
        """Start looking for models; `torch` has been imported by the server.

        Args:
            torch: the module.
            look_back: models may have been built already.
        """
        self._torch = torch
        self._is_compiling = torch.compiler.is_compiling
        self._tracing_state = torch._C._get_tracing_state
        self._tensor = torch.Tensor
        self._finder = ModelFinder(self.part, torch.nn.Module)
        self._finder.install(look_back=look_back)
        self._wrap_replicate(torch.nn.Module)

    def uninstall(self) -> None:
        """Forget all models and leave them as they were."""
        self.part.enabled = False
        if self._finder is not None:
            self._finder.uninstall()
        if self._undo is not None:
            self._undo()
            self._undo = None
        self._release()

    def _wrap_replicate(self, module_class: Any) -> None:
        """DataParallel copies a module's `__dict__` as it is, with a closure over the original."""
        original = getattr(module_class, "_replicate_for_data_parallel", None)
        if original is None:
            return

        def _replicate_for_data_parallel(module: Any) -> Any:
            replica = original(module)
            watched = self._watched.get(id(module))
            if watched is not None and replica.__dict__.get(_SLOT) is watched[1]:
                del replica.__dict__[_SLOT]
            return replica

        module_class._replicate_for_data_parallel = _replicate_for_data_parallel
        self._undo = lambda: setattr(module_class, "_replicate_for_data_parallel", original)

    def start(self, recorder: Recorder) -> None:
        """Records go to `recorder` from now on."""
        self.recorder = recorder
        if self._finder is not None:
            for root in self._finder.known_roots():
                self._watch(root, recorder)

    def forget(self) -> None:
        """After a fork: the ids of names belong to the parent's ring."""
        self.recorder = None
        self._descriptions.clear()
        self._undescribed.clear()
        self._forwards = self._requests_without = self._level = 0
        self._layers.forget()
        self._release()

    def _release(self) -> None:
        """Take our closures out of all living models; `module.compile()` may have taken over."""
        watched, self._watched = self._watched, {}
        for reference, closure in list(watched.values()):
            module = reference()
            if module is not None and module.__dict__.get(_SLOT) is closure:
                del module.__dict__[_SLOT]

    def before_handler(self) -> None:
        """Called on the worker before each handler: pick up models that are new."""
        finder, recorder = self._finder, self.recorder
        if finder is None or recorder is None or not self.part.enabled:
            return
        try:
            if finder.dirty:
                for root in finder.new_roots():
                    self._watch(root, recorder)
            elif not self._forwards and self._level < DESCENTS_MAX:
                self._requests_without += 1
                if self._requests_without >= UNCALLED_REQUESTS:
                    self._descend(finder, recorder)
        except Exception as error:
            self.part.trip(error)

    def _descend(self, finder: ModelFinder, recorder: Recorder) -> None:
        self._requests_without = 0
        self._level += 1
        for root in finder.known_roots():
            for module in descendants(root, self._level):
                self._watch(module, recorder)

    def samples(self, now_ns: int) -> list[ModelSample | TorchSample]:
        """What is known of the models and of torch itself, for the sampler thread."""
        recorder = self.recorder
        if self._finder is None or recorder is None or not self.part.enabled:
            return []
        undescribed, self._undescribed = self._undescribed, []
        for reference, model_id in undescribed:
            module = reference()
            if module is not None:
                self._descriptions[model_id] = _describe(module, model_id, recorder)
        described = [
            dataclasses.replace(sample, time_ns=now_ns) for sample in self._descriptions.values()
        ]
        threads = TorchSample(now_ns, 0, intraop_threads=self._torch.get_num_threads())
        return [*described, threads]

    # One model

    def _watch(self, module: Any, recorder: Recorder) -> None:
        if id(module) in self._watched or module.__dict__.get(_SLOT) is not None:
            return  # ours already, or compiled with module.compile(): torch's own slot
        if self._copies_itself(type(module)):
            return
        name = type(module).__name__
        model_id = recorder.intern(NameKind.MODEL, name)
        closure = self._closure(module, model_id, recorder)
        key = id(module)
        self._watched[key] = ref(module, lambda _: self._watched.pop(key, None)), closure
        module.__dict__[_SLOT] = closure
        self._undescribed.append((ref(module), model_id))

    def _copies_itself(self, module_class: type) -> bool:
        """Classes that pickle or copy themselves their own way might take our closure along
        (torch.fx.GraphModule fails on it). Scripted modules refuse to be pickled anyway, and
        what torch.compile returns is made anew from the model in it."""
        if issubclass(module_class, self._torch.jit.ScriptModule):
            return False
        if module_class.__name__ == "OptimizedModule":
            return False
        base = self._torch.nn.Module
        return any(
            getattr(module_class, name, None) is not getattr(base, name, None)
            for name in ("__reduce__", "__reduce_ex__", "__getstate__", "__copy__", "__deepcopy__")
        )

    def _closure(self, module: Any, model_id: int, recorder: Recorder) -> Callable[..., Any]:
        # A plain function: a callable object here would break torch.jit.script. A weak
        # reference: the model must be freed the moment the server lets go of it.
        is_compiling, tracing_state = self._is_compiling, self._tracing_state
        part, measure, call_impl = self.part, self._measure, type(module)._call_impl
        module_of = ref(module)

        def forward(*args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return call_impl(module_of(), *args, **kwargs)
            # Whoever copies `__dict__` by hand copies this function too: then it is called
            # for another module, and steps aside for good.
            called = sys._getframe(1).f_locals.get("self")
            module = module_of()
            if called is not module and called is not None:
                called.__dict__.pop(_SLOT, None)
                return type(called)._call_impl(called, *args, **kwargs)
            if not part.enabled or tracing_state() is not None:
                return call_impl(module, *args, **kwargs)
            thread = current()
            if thread.forward_depth:
                return call_impl(module, *args, **kwargs)
            return measure(recorder, thread, module, model_id, call_impl, args, kwargs)

        return forward

    def _measure(
        self,
        recorder: Recorder,
        thread: ThreadState,
        module: Any,
        model_id: int,
        call_impl: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        part = self.part
        call = thread.call
        layers = None
        begin_ns = monotonic_ns()
        try:
            if call is not None:
                call.forward_begins()
            # Not the first: models compile and initialise themselves in it.
            if self._forwards and self._layers.due(model_id, begin_ns):
                layers = self._layers.begin(model_id, begin_ns)
        except Exception as error:
            part.trip(error)
        thread.forward_depth = 1
        try:
            return call_impl(module, *args, **kwargs)
        finally:
            thread.forward_depth = 0
            try:
                if layers is not None:
                    self._layers.end()
                if part.enabled:
                    wall_ns = monotonic_ns() - begin_ns
                    self._record(recorder, thread, call, model_id, args, kwargs, begin_ns, wall_ns)
                    if layers is not None:
                        self._record_layers(recorder, module, model_id, layers.layers, begin_ns)
            except Exception as error:
                part.trip(error)

    def _record(
        self,
        recorder: Recorder,
        thread: ThreadState,
        call: Call | None,
        model_id: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begin_ns: int,
        wall_ns: int,
    ) -> None:
        batch_size, device = self._batch(args, kwargs)
        device_id = recorder.intern(NameKind.DEVICE, device) if device else 0
        event = ForwardEvent(model_id, device_id, batch_size, thread.native_id, begin_ns, wall_ns)
        recorder.forward(event)
        self._forwards += 1
        if call is not None:
            call.forward_ended(model_id, batch_size, wall_ns)

    def _batch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, str]:
        """First dimension and device of the first tensor argument; (0, "") without one."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, self._tensor):
                return (value.shape[0] if value.dim() else 1), str(value.device)
        return 0, ""

    def _record_layers(
        self,
        recorder: Recorder,
        module: Any,
        model_id: int,
        layers: dict[int, LayerTime],
        begin_ns: int,
    ) -> None:
        names = {id(child): name or "(model)" for name, child in module.named_modules()}
        self._samples += 1
        for name, layer in largest(layers, names.get):
            layer_id = recorder.intern(NameKind.LAYER, name)
            recorder.layer(
                LayerEvent(
                    model_id,
                    layer_id,
                    layer.calls,
                    self._samples & 0xFFFFFFFF,
                    begin_ns,
                    layer.cpu_ns,
                    layer.wall_ns,
                )
            )


def _describe(module: Any, model_id: int, recorder: Recorder) -> ModelSample:
    parameters = list(module.parameters())
    first = parameters[0] if parameters else None
    intern = recorder.intern
    return ModelSample(
        0,
        model_id,
        parameters=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
        dtype_id=intern(NameKind.OTHER, str(first.dtype)) if first is not None else None,
        device_id=intern(NameKind.DEVICE, str(first.device)) if first is not None else None,
        compiled=float(type(module).__name__ == "OptimizedModule"),
    )
