from __future__ import annotations

import pytest

from pinchpoint.schema.events import (
    FORWARD_GRAD,
    FORWARD_OUTSIDE,
    FORWARD_TRAINING,
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
)
from pinchpoint.schema.observations import Name, NameKind
from tests.support.observations import MILLISECOND_NS
from tests.unit.pipeline.feeding import CAPS, FLOOD, fed, feed, shown

NET = Name(1, NameKind.MODEL, 0, "net")


def test_forwards_are_counted_with_their_batch_size() -> None:
    """A size that was not seen is no batch of zero."""
    (model,) = shown(
        fed(NET, ForwardEvent(0, 1, 0, 8, 7, 0, MILLISECOND_NS), ForwardEvent(0, 1, 0, 0, 7, 0, 1))
    ).models
    assert model.forward.count == 2
    assert (model.batch_size.count, model.batch_size.sum) == (1, 8.0)


def test_layers_of_one_forward_are_one_sample() -> None:
    """Whatever the number of layers; another source's forward is another."""
    layers = [LayerEvent(1, layer, 1, 5, 0, 10, 10) for layer in (2, 3)]
    pipeline = fed(*layers)
    feed(pipeline, *layers, source=2)
    assert [m.layer_samples for m in shown(pipeline).models] == [2]


def test_a_flood_of_models_and_layers_is_folded() -> None:
    """The same of what a model is called and made of."""
    models = [Name(i + 1, NameKind.MODEL, 0, f"m{i}") for i in range(FLOOD)]
    layers = [Name(FLOOD + i + 1, NameKind.LAYER, 0, f"l{i}") for i in range(FLOOD)]
    forwards = [ForwardEvent(0, i + 1, 0, 4, 7, 0, MILLISECOND_NS) for i in range(FLOOD)]
    of_one = [LayerEvent(1, FLOOD + i + 1, 1, 5, 0, 1000, 1000) for i in range(FLOOD)]
    totals = shown(fed(*models, *layers, *forwards, *of_one)).models
    assert len(totals) == CAPS.models + 1
    assert sum(m.forward.count for m in totals) == FLOOD
    first = next(m for m in totals if m.model == "m0")
    assert len(first.layer_seconds) == CAPS.layers + 1
    assert sum(first.layer_seconds.values()) == pytest.approx(FLOOD * 1e-6)


def test_forwards_that_are_not_fit_for_serving_are_counted() -> None:
    """Each kind by itself, and whoever ran them; every forward is counted once."""
    flags = (0, FORWARD_OUTSIDE, FORWARD_GRAD, FORWARD_GRAD | FORWARD_TRAINING)
    (model,) = shown(fed(NET, *(ForwardEvent(f, 1, 0, 1, 7, 0, 1) for f in flags))).models
    assert model.forward.count == 4
    assert (model.forwards_with_grad, model.forwards_in_training_mode) == (2, 1)


def test_a_forwards_time_on_its_device_is_no_second_forward() -> None:
    """It is known later, of a sample."""
    forward = ForwardEvent(0, 1, 0, 8, 7, 0, MILLISECOND_NS)
    device = DeviceEvent(1, 0, 8, 0, MILLISECOND_NS, 5 * MILLISECOND_NS)
    (model,) = shown(fed(NET, forward, forward, device)).models
    assert (model.forward.count, model.batch_size.count) == (2, 2)
    assert (model.enqueue.count, model.enqueue.sum) == pytest.approx((1, 0.001))
    assert (model.device.count, model.device.sum) == pytest.approx((1, 0.005))
