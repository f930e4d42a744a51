"""Families of torch models, by what their forwards did and what is known of them."""

from __future__ import annotations

from pinchpoint.expose.family import Family

MODELS: tuple[Family, ...] = (
    Family(
        "pinchpoint_forward_seconds",
        "histogram",
        "Time of one forward of a model, seen from the host.",
        ("model",),
        lambda s: (((m.model,), m.forward) for m in s.models),
    ),
    Family(
        "pinchpoint_batch_size",
        "histogram",
        "First dimension of a forward's first tensor.",
        ("model",),
        lambda s: (((m.model,), m.batch_size) for m in s.models if m.batch_size.count),
    ),
    Family(
        "pinchpoint_forward_enqueue_seconds",
        "histogram",
        "Host time of a sampled forward on an asynchronous device, for which it only enqueues.",
        ("model",),
        lambda s: (((m.model,), m.enqueue) for m in s.models if m.enqueue.count),
    ),
    Family(
        "pinchpoint_forward_device_seconds",
        "histogram",
        "Time of a sampled forward on its asynchronous device.",
        ("model",),
        lambda s: (((m.model,), m.device) for m in s.models if m.device.count),
    ),
    Family(
        "pinchpoint_forwards_with_grad",
        "counter",
        "Forwards that recorded gradients: time and memory that serving does not need.",
        ("model",),
        lambda s: (((m.model,), m.forwards_with_grad) for m in s.models),
    ),
    Family(
        "pinchpoint_forwards_in_training_mode",
        "counter",
        "Forwards of a model in training mode: its dropout and batch norm change the results.",
        ("model",),
        lambda s: (((m.model,), m.forwards_in_training_mode) for m in s.models),
    ),
    Family(
        "pinchpoint_layer_seconds",
        "counter",
        "CPU time of a layer itself over the sampled forwards.",
        ("model", "layer"),
        lambda s: (
            ((m.model, layer), seconds)
            for m in s.models
            for layer, seconds in sorted(m.layer_seconds.items())
        ),
    ),
    Family(
        "pinchpoint_layer_samples",
        "counter",
        "Forwards whose layers were sampled.",
        ("model",),
        lambda s: (((m.model,), m.layer_samples) for m in s.models),
    ),
    Family(
        "pinchpoint_model_info",
        "gauge",
        "A model and where and how it runs.",
        ("model", "device", "dtype", "compiled"),
        lambda s: (
            ((m.model, m.device, m.dtype, str(m.compiled).lower()), 1.0) for m in s.model_facts
        ),
    ),
    Family(
        "pinchpoint_model_parameters",
        "gauge",
        "Parameters of a model.",
        ("model",),
        lambda s: (((m.model,), m.parameters) for m in s.model_facts if m.parameters is not None),
    ),
    Family(
        "pinchpoint_model_bytes",
        "gauge",
        "Size of a model's parameters.",
        ("model",),
        lambda s: (((m.model,), m.bytes) for m in s.model_facts if m.bytes is not None),
    ),
)
