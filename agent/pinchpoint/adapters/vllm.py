"""vLLM, V1 engine and V0's last releases. Read in the source of 0.33.0 and 0.6.3."""

from __future__ import annotations

from pinchpoint.adapters.adapter import Adapter, count_of, counter, gauge, sum_of

VLLM = Adapter(
    "vllm",
    "model_name",
    {
        "running": (gauge("vllm:num_requests_running"),),
        "waiting": (
            gauge("vllm:num_requests_waiting_by_reason", reason="capacity"),
            gauge("vllm:num_requests_waiting"),
        ),
        "deferred": (gauge("vllm:num_requests_waiting_by_reason", reason="deferred"),),
        "cache_usage_ratio": (
            gauge("vllm:kv_cache_usage_perc"),
            gauge("vllm:gpu_cache_usage_perc"),
        ),
        "finished": (counter("vllm:request_success"),),
        "preemptions": (counter("vllm:num_preemptions"),),
        "prompt_tokens": (counter("vllm:prompt_tokens"),),
        "generated_tokens": (counter("vllm:generation_tokens"),),
        "request_seconds": (sum_of("vllm:e2e_request_latency_seconds"),),
        "queue_seconds": (sum_of("vllm:request_queue_time_seconds"),),
        "prefill_seconds": (sum_of("vllm:request_prefill_time_seconds"),),
        "decode_seconds": (sum_of("vllm:request_decode_time_seconds"),),
        "first_token_seconds": (sum_of("vllm:time_to_first_token_seconds"),),
        "first_tokens": (count_of("vllm:time_to_first_token_seconds"),),
    },
)
