"""NVIDIA Triton. Names, types and units are those of its `docs/user_guide/metrics.md`.

Triton adds up the seconds that requests spend in each step, so that two requests in one batch
count its time twice.
"""

from __future__ import annotations

from pinchpoint.adapters.adapter import MICROSECONDS, Adapter, counter, gauge

TRITON = Adapter(
    "triton",
    "model",
    {
        "waiting": (gauge("nv_inference_pending_request_count"),),
        "finished": (counter("nv_inference_request_success"),),
        "failed": (counter("nv_inference_request_failure"),),
        "executions": (counter("nv_inference_exec_count"),),
        "request_seconds": (counter("nv_inference_request_duration_us", MICROSECONDS),),
        "queue_seconds": (counter("nv_inference_queue_duration_us", MICROSECONDS),),
        "input_seconds": (counter("nv_inference_compute_input_duration_us", MICROSECONDS),),
        "compute_seconds": (counter("nv_inference_compute_infer_duration_us", MICROSECONDS),),
        "output_seconds": (counter("nv_inference_compute_output_duration_us", MICROSECONDS),),
    },
)
