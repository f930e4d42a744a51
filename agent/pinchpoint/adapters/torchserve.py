"""TorchServe with `metrics_mode=prometheus`. Recorded from a running 0.12.0.

`ts_inference_latency_microseconds` includes the queue: 48 requests of 100 ms, four at a time for
one worker, took their clients 0.405 s on average and counted 0.400 s there, 0.297 s of it queue.
"""

from __future__ import annotations

from pinchpoint.adapters.adapter import MICROSECONDS, Adapter, counter

TORCHSERVE = Adapter(
    "torchserve",
    "model_name",
    {
        "finished": (counter("ts_inference_requests"),),
        "request_seconds": (counter("ts_inference_latency_microseconds", MICROSECONDS),),
        "queue_seconds": (counter("ts_queue_latency_microseconds", MICROSECONDS),),
    },
)
