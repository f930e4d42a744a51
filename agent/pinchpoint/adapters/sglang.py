"""SGLang with `--enable-metrics`. Read in the source of 0.5.23.

With priority scheduling a gauge says the total under an empty priority, and its parts beside it.
"""

from __future__ import annotations

from pinchpoint.adapters.adapter import Adapter, count_of, counter, gauge, sum_of

SGLANG = Adapter(
    "sglang",
    "model_name",
    {
        "running": (gauge("sglang:num_running_reqs", priority=""),),
        "waiting": (gauge("sglang:num_queue_reqs", priority=""),),
        "deferred": (gauge("sglang:num_grammar_queue_reqs", priority=""),),
        "cache_usage_ratio": (gauge("sglang:token_usage", priority=""),),
        "finished": (counter("sglang:num_requests"),),
        "failed": (counter("sglang:num_aborted_requests"),),
        "preemptions": (counter("sglang:num_retracted_requests"),),
        "prompt_tokens": (counter("sglang:prompt_tokens"),),
        "generated_tokens": (counter("sglang:generation_tokens"),),
        "request_seconds": (sum_of("sglang:e2e_request_latency_seconds"),),
        "queue_seconds": (sum_of("sglang:queue_time_seconds"),),
        "prefill_seconds": (
            sum_of("sglang:per_stage_req_latency_seconds", stage="prefill_forward"),
        ),
        "first_token_seconds": (sum_of("sglang:time_to_first_token_seconds"),),
        "first_tokens": (count_of("sglang:time_to_first_token_seconds"),),
    },
)
