"""Text Generation Inference, release 2 and later. Names, types and units of its metrics reference
(`docs/source/reference/metrics.md`) and of its router's source.

One model a server, which its metrics do not name. A series appears with its first value.
"""

from __future__ import annotations

from pinchpoint.adapters.adapter import Adapter, counter, gauge, sum_of

TGI = Adapter(
    "tgi",
    "",
    {
        "running": (gauge("tgi_batch_current_size"),),
        "waiting": (gauge("tgi_queue_size"),),
        "finished": (counter("tgi_request_success"),),
        "failed": (counter("tgi_request_failure"),),
        "prompt_tokens": (sum_of("tgi_request_input_length"),),
        "generated_tokens": (sum_of("tgi_request_generated_tokens"),),
        "request_seconds": (sum_of("tgi_request_duration"),),
        "queue_seconds": (sum_of("tgi_request_queue_duration"),),
        "input_seconds": (sum_of("tgi_request_validation_duration"),),
        "compute_seconds": (sum_of("tgi_request_inference_duration"),),
    },
)
