"""A closer look at a few forwards a second: what each of them would be too dear for.

The device and the modes of the model hold for its other forwards until the next look. Layers
and device times are those of the forward looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from pinchpoint.probe.guard import Part
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.torch_cuda import DeviceTimes, Pending, Timing
from pinchpoint.probe.torch_layers import Forward, LayerSampler
from pinchpoint.samplers.source import Intern
from pinchpoint.schema.events import FORWARD_GRAD, FORWARD_TRAINING, LayerEvent
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample

INTERVAL_NS = 300_000_000
JITTER_NS = 200_000_000
"""Between two looks at a model: at least two a second (DESIGN section 3), out of step with the
traffic."""

_STEP = 0.618e-9  # a golden-ratio step for every second of the clock


class WatchedModel:
    """A module that holds a function of ours.

    Attributes:
        model_id: the id of its name.
        module_of: the module, while it lives.
        function: what is in its slot; None when it is off.
        called: whether a forward has been seen.
        due_ns: when the next forward is looked at.
        spent_ns: in forwards, since its layers' costs were last settled.
        balance_ns: what may be spent on its layers; below zero it has to be earned first.
        device, device_id: of the first tensor, at the last look.
        flags: `FORWARD_GRAD` and `FORWARD_TRAINING`, at the last look.
        autocast: whether operations chose their own precision then.
    """

    __slots__ = (
        "_release",
        "autocast",
        "balance_ns",
        "called",
        "device",
        "device_id",
        "due_ns",
        "flags",
        "function",
        "model_id",
        "module_of",
        "spent_ns",
    )

    def __init__(self, model_id: int, module_of: ref[Any]) -> None:
        self.model_id = model_id
        self.module_of = module_of
        self.function: Callable[..., Any] | None = None
        self._release: Callable[[], None] | None = None
        self.called = self.autocast = False
        self.due_ns = self.spent_ns = self.balance_ns = 0
        self.device: Any = None
        self.device_id = self.flags = 0

    def hold(self, function: Callable[..., Any], release: Callable[[], None]) -> None:
        """Keep what goes into the slot, and what switches it off for good."""
        self.function = function
        self._release = release

    def drop(self) -> None:
        """Switch the function off. Everything that refers to itself here is let go of."""
        release, self._release, self.function = self._release, None, None
        if release is not None:
            release()


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any], tensor: type) -> Any:
    """The first tensor among the arguments, or in a dictionary among them; None without one."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, tensor):
            return value
        if isinstance(value, dict):
            for inner in value.values():
                if isinstance(inner, tensor):
                    return inner
    return None


def batch_size(args: tuple[Any, ...], kwargs: dict[str, Any], tensor: type) -> int:
    """First dimension of the first tensor; 1 for a scalar, 0 without a tensor."""
    value = first_tensor(args, kwargs, tensor)
    if value is None:
        return 0
    return int(value.size(0)) if value.dim() else 1  # nested tensors have a size and no shape


class Looks:
    """Looks at forwards of any model, from any thread.

    Args:
        part: the guard's part.
        layers: samples the layers.
        device_times: times forwards on their devices.

    Attributes:
        called: whether any model has been called.
    """

    def __init__(self, part: Part, layers: LayerSampler, device_times: DeviceTimes) -> None:
        self._part = part
        self._layers = layers
        self._device_times = device_times
        self.called = False

    def install(self, torch: Any) -> None:
        """`torch` has been imported."""
        self._tensor = torch.Tensor
        self._is_grad_enabled = torch.is_grad_enabled
        self._is_autocast_enabled = getattr(
            torch._C, "_is_any_autocast_enabled", torch.is_autocast_enabled
        )

    def forget(self) -> None:
        """After a fork: models have to be seen to be called anew."""
        self.called = False
        self._layers.forget()

    def begin(
        self,
        model: WatchedModel,
        module: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begin_ns: int,
        recorder: Recorder,
    ) -> Look | None:
        """Look at a forward that is about to begin; a `Look` if more follows at its end."""
        first = not model.called
        model.called = self.called = True
        value = first_tensor(args, kwargs, self._tensor)
        if value is not None and value.device != model.device:
            model.device = value.device
            model.device_id = recorder.intern(NameKind.DEVICE, str(value.device))
        model.flags = (FORWARD_GRAD if self._is_grad_enabled() else 0) | (
            FORWARD_TRAINING if module.training else 0
        )
        model.autocast = bool(self._is_autocast_enabled())
        if first:
            return None  # models compile and initialise themselves in it: look again
        model.due_ns = begin_ns + INTERVAL_NS + int(JITTER_NS * (begin_ns * _STEP % 1.0))
        model.balance_ns += self._layers.allowance_ns(model.spent_ns)
        model.spent_ns = 0
        timing = self._device_times.begin(model.device)
        layers = self._layers.begin() if model.balance_ns >= 0 else None
        if timing is None and layers is None:
            return None
        return Look(self._layers, self._device_times, model, module, timing, layers)

    def signals(self, now_ns: int, intern: Intern) -> list[Sample]:
        """Whether layers can be sampled."""
        return self._layers.signals(now_ns, intern)


class Look:
    """What is measured of one forward until it ends."""

    def __init__(
        self,
        sampler: LayerSampler,
        device_times: DeviceTimes,
        model: WatchedModel,
        module: Any,
        timing: Timing | None,
        layers: Forward | None,
    ) -> None:
        self._sampler = sampler
        self._device_times = device_times
        self._model = model
        self._module = module
        self._timing = timing
        self._layers = layers

    def stop(self) -> None:
        """The forward has returned or raised: take everything of ours out of torch."""
        if self._layers is not None:
            self._sampler.end()
        if self._timing is not None and not self._device_times.end(self._timing):
            self._timing = None

    def write(self, recorder: Recorder, batch: int, begin_ns: int, wall_ns: int) -> None:
        """Write what was measured, or have it written when it is known."""
        model = self._model
        if self._timing is not None:
            self._device_times.submit(
                Pending(self._timing, model.model_id, model.device_id, batch, begin_ns, wall_ns)
            )
        if self._layers is not None:
            self._write_layers(self._layers, recorder, begin_ns)

    def _write_layers(self, forward: Forward, recorder: Recorder, begin_ns: int) -> None:
        with forward.costing():
            for name, layer in forward.largest(self._module):
                recorder.layer(
                    LayerEvent(
                        self._model.model_id,
                        recorder.intern(NameKind.LAYER, name),
                        layer.calls,
                        forward.number,
                        begin_ns,
                        layer.cpu_ns,
                        layer.wall_ns,
                    )
                )
        self._model.balance_ns -= forward.cost_ns
