"""torch models, seen through the outermost module of each forward.

The module's own `_compiled_call_impl` slot takes a function that `Module.__call__` finds
first. Unlike hooks or a replaced `forward` this survives torch.compile (no graph break),
scripting, tracing, export, pickling and deepcopy (INPROCESS section 4): while torch is
compiling or tracing the function steps aside, and copies do not carry it (`torch_slot`).

Every forward is a record. A few a second are looked at besides: the model's device and modes,
its layers and its time on the device. What a look has found holds until the next.

Not seen: `module.forward(x)` called directly, `CUDAGraph.replay()`, and what is no module, as
a package of AOTInductor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from sys import getrefcount
from time import monotonic_ns
from typing import Any
from weakref import ref

from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.shared_forwards import SharedForward
from pinchpoint.probe.thread_state import current_call, threads
from pinchpoint.probe.torch_cuda import DeviceTimes
from pinchpoint.probe.torch_layers import LayerSampler
from pinchpoint.probe.torch_looks import Look, Looks, WatchedModel, batch_size
from pinchpoint.probe.torch_models import DESCENTS_MAX, ModelFinder, descendants
from pinchpoint.probe.torch_settings import TorchSettings
from pinchpoint.probe.torch_slot import SLOT, copies_itself, references_in_call, stray
from pinchpoint.schema import wire
from pinchpoint.schema.events import FORWARD_OUTSIDE
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample

UNCALLED_REQUESTS = 20
"""Requests without a forward after which the children of the roots are watched too."""


class TorchForwardProbe:
    """Every model of this process.

    Args:
        part: the guard's part for this hook.
        device_part: its part for what touches CUDA.

    Attributes:
        pending: whether `before_handler` has something to do.
    """

    def __init__(self, part: Part, device_part: Part) -> None:
        self.part = part
        self.pending = False
        self.recorder: Recorder | None = None
        self._device_times = DeviceTimes(device_part)
        self._looks = Looks(part, LayerSampler(), self._device_times)
        self._finder: ModelFinder | None = None
        self._settings: TorchSettings | None = None
        self._watched: dict[int, WatchedModel] = {}
        self._undo: Callable[[], None] | None = None
        self._requests_without = 0
        self._level = 0

    def install(self, torch: Any, *, look_back: bool) -> None:
        """Start looking for models; `torch` has been imported by the server.

        Args:
            torch: the module.
            look_back: models may have been built already.
        """
        self._torch = torch
        self._references = references_in_call(torch.nn.Module)
        self._compiler = (
            torch.compiler
            if hasattr(torch.compiler, "_is_compiling_flag")
            else _Compiler(torch.compiler.is_compiling)
        )
        self._settings = TorchSettings(torch, self._device_times)
        self._looks.install(torch)
        self._finder = ModelFinder(self.part, torch.nn.Module, self._attend)
        self._finder.install(look_back=look_back)
        self._wrap_replicate(torch.nn.Module)
        self._device_times.install(torch)

    def _attend(self) -> None:
        self.pending = True

    def uninstall(self) -> None:
        """Forget all models and leave them as they were."""
        self.part.enabled = False
        self._device_times.uninstall()
        if self._finder is not None:
            self._finder.uninstall()
        if self._undo is not None:
            self._undo()
            self._undo = None
        self._release()

    def _wrap_replicate(self, module_class: Any) -> None:
        """DataParallel copies a module's `__dict__` as it is, with a function of ours in it."""
        original = getattr(module_class, "_replicate_for_data_parallel", None)
        if original is None:
            return

        def _replicate_for_data_parallel(module: Any) -> Any:
            replica = original(module)
            watched = self._watched.get(id(module))
            if watched is not None and replica.__dict__.get(SLOT) is watched.function:
                del replica.__dict__[SLOT]
            return replica

        module_class._replicate_for_data_parallel = _replicate_for_data_parallel
        self._undo = lambda: setattr(module_class, "_replicate_for_data_parallel", original)

    def start(self, recorder: Recorder) -> None:
        """Records go to `recorder` from now on."""
        self.recorder = recorder
        if self._finder is not None:
            self.pending = True
            for root in self._finder.known_roots():
                self._watch(root, recorder)

    def forget(self) -> None:
        """After a fork: the ids of names belong to the parent's ring, and its device too."""
        self.recorder = None
        self._requests_without = self._level = 0
        self._looks.forget()
        self._device_times.forget()
        if self._settings is not None:
            self._settings.forget()
        self._release()

    def _release(self) -> None:
        """Take our functions out of all living models; `module.compile()` may have taken over."""
        watched, self._watched = self._watched, {}
        for model in list(watched.values()):
            module = model.module_of()
            if module is not None and module.__dict__.get(SLOT) is model.function:
                del module.__dict__[SLOT]
            model.drop()

    def before_handler(self) -> None:
        """Called before a handler runs, while `pending`: pick up models that are new."""
        finder, recorder = self._finder, self.recorder
        if finder is None or recorder is None or not self.part.enabled:
            return
        try:
            called = self._looks.called
            self.pending = not called and self._level < DESCENTS_MAX
            if finder.dirty:
                for root in finder.new_roots():
                    self._watch(root, recorder)
            elif self.pending:
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

    def samples(self, now_ns: int) -> list[Sample]:
        """What is known of the models and of torch itself, for the sampler thread."""
        recorder, settings = self.recorder, self._settings
        if settings is None or recorder is None or not self.part.enabled:
            return []
        models = list(self._watched.values())
        return [
            *settings.samples(models, now_ns, recorder.intern),
            *self._looks.signals(now_ns, recorder.intern),
        ]

    def device_samples(self, now_ns: int) -> list[Sample]:
        """Write the device times that are known by now, for the sampler thread."""
        recorder = self.recorder
        if recorder is None or not self._device_times.part.enabled:
            return []
        for event in self._device_times.poll(now_ns):
            recorder.device(event)
        return self._device_times.signals(now_ns, recorder.intern)

    # One model

    def _watch(self, module: Any, recorder: Recorder) -> None:
        if id(module) in self._watched or module.__dict__.get(SLOT) is not None:
            return  # ours already, or compiled with module.compile(): torch's own slot
        if copies_itself(self._torch, type(module)):
            return
        model_id = recorder.intern(NameKind.MODEL, type(module).__name__)
        key = id(module)

        def gone(_: Any) -> None:
            watched = self._watched.pop(key, None)
            if watched is not None:
                watched.drop()

        model = WatchedModel(model_id, ref(module, gone))
        function, release = self._function(module, model, recorder)
        model.hold(function, release)
        self._watched[key] = model
        module.__dict__[SLOT] = function

    def _function(
        self, module: Any, model: WatchedModel, recorder: Recorder
    ) -> tuple[Callable[..., Any], Callable[[], None]]:
        """What goes into the slot of a module, and what switches it off for good.

        A plain function, because a callable object would break torch.jit.script, with a weak
        reference, because the model must be freed the moment the server lets go of it. It runs
        at every forward: all that it needs is bound, nothing is looked up and nothing called
        that could stand here.
        """
        is_dynamo_compiling = self._torch.compiler.is_dynamo_compiling
        compiler, tracing_state = self._compiler, self._torch._C._get_tracing_state
        part, looks, references = self.part, self._looks, self._references
        call_impl, module_of = type(module)._call_impl, model.module_of
        tensor, new_tuple = self._torch.Tensor, tuple.__new__
        model_id, remember = model.model_id, recorder.shared_forwards.add
        writer = recorder.writer
        claim, buffer, pack_into = writer.claim_event, writer.buffer, wire.FORWARD.pack_into
        offset, mask, slot_bytes = writer.event_offset, writer.event_mask, wire.EVENT_BYTES
        kind = wire.KIND_FORWARD
        spent_ns = 0

        def forward(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent_ns
            if is_dynamo_compiling():
                return call_impl(module_of(), *args, **kwargs)
            module = module_of()
            if getrefcount(forward) != references:
                other = stray(forward, module, sys._getframe(1))
                if other is not None:
                    return type(other)._call_impl(other, *args, **kwargs)
            thread = threads.state
            if (
                thread.forward_depth
                or not part.enabled
                or compiler._is_compiling_flag
                or tracing_state() is not None
            ):
                return call_impl(module, *args, **kwargs)
            call = None
            look: Look | None = None
            begin_ns = monotonic_ns()
            try:
                call = current_call()
                if begin_ns >= model.due_ns:
                    model.spent_ns += spent_ns
                    spent_ns = 0
                    look = looks.begin(model, module, args, kwargs, begin_ns, recorder)
                    begin_ns = monotonic_ns()
                if call is not None:
                    # The request's split ends where the forward begins, to the nanosecond.
                    call.first_forward_ns = call.first_forward_ns or begin_ns
                    call.forward_begins()
            except Exception as error:
                part.trip(error)
            thread.forward_depth = 1
            try:
                if kwargs or len(args) != 1:
                    return call_impl(module, *args, **kwargs)
                return call_impl(module, args[0])
            finally:
                wall_ns = monotonic_ns() - begin_ns
                thread.forward_depth = 0
                try:
                    if look is not None:
                        look.stop()
                    # None if the probe was taken out, or the process forked, in the forward.
                    if forward is not None:
                        spent_ns += wall_ns
                        batch = -1
                        if args and type(args[0]) is tensor:
                            try:
                                batch = args[0].shape[0]
                            except (IndexError, RuntimeError):
                                pass  # a scalar, or a nested tensor
                        if batch < 0:
                            batch = batch_size(args, kwargs, tensor)
                        sequence = claim()
                        pack_into(
                            buffer,
                            offset + ((sequence - 1) & mask) * slot_bytes,
                            sequence,
                            kind,
                            model.flags if call is not None else model.flags | FORWARD_OUTSIDE,
                            model_id,
                            model.device_id,
                            batch,
                            thread.native_id,
                            begin_ns,
                            wall_ns,
                            sequence,
                        )
                        if call is not None:
                            call.forward_ended(model_id, batch, wall_ns)
                        else:
                            outside = model_id, batch, begin_ns, wall_ns
                            remember(new_tuple(SharedForward, outside))
                        if look is not None:
                            look.write(recorder, batch, begin_ns, wall_ns)
                except Exception as error:
                    part.trip(error)

        def release() -> None:
            nonlocal forward
            forward = None  # type: ignore[assignment]

        return forward, release


class _Compiler:
    """Older versions of torch keep the flag elsewhere, and have to be asked."""

    def __init__(self, is_compiling: Callable[[], bool]) -> None:
        self._is_compiling = is_compiling

    @property
    def _is_compiling_flag(self) -> bool:
        return self._is_compiling()
