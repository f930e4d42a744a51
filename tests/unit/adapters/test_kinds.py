"""Each kind of server on an exposition of its own (where from: docs/guides/other-servers.md)."""

from __future__ import annotations

import pytest

from pinchpoint.adapters import exposition
from pinchpoint.adapters.adapter import Adapter, Values
from pinchpoint.adapters.kinds import ADAPTERS, KINDS, adapter_of
from pinchpoint.config.model import ADAPTER_KINDS
from pinchpoint.schema.samples import ServedSample
from pinchpoint.schema.wire import sample_fields
from tests.support.scripts import ROOT

FIXTURES = ROOT / "tests/fixtures/adapters"


def read(kind: str, text: str) -> Values:
    adapter = adapter_of(kind)
    return adapter.read(exposition.read(text.encode(), "text/plain", adapter.names).series)


def of_fixture(kind: str) -> Values:
    return read(kind, (FIXTURES / f"{kind}.prom").read_text())


def test_vllm_sums_its_engines_and_takes_the_fullest_cache() -> None:
    assert of_fixture("vllm") == {
        "meta-llama/Llama-3.1-8B-Instruct": {
            "running": 256.0,
            "waiting": 79.0,
            "deferred": 2.0,
            "cache_usage_ratio": 0.97,
            "finished": 8.0,
            "preemptions": 3.0,
            "prompt_tokens": 1600.0,
            "generated_tokens": 25600.0,
            "request_seconds": 80.0,
            "queue_seconds": 32.0,
            "prefill_seconds": 4.0,
            "decode_seconds": 44.0,
            "first_token_seconds": 4.0,
            "first_tokens": 4.0,
        }
    }


def test_an_older_vllm_is_read_by_its_older_names() -> None:
    text = """\
vllm:num_requests_running{model_name="m"} 3.0
vllm:num_requests_waiting{model_name="m"} 2.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:e2e_request_latency_seconds_sum{model_name="m"} 9.0
vllm:request_success_total{finished_reason="stop",model_name="m"} 5.0
"""
    assert read("vllm", text) == {
        "m": {
            "running": 3.0,
            "waiting": 2.0,
            "cache_usage_ratio": 0.25,
            "request_seconds": 9.0,
            "finished": 5.0,
        }
    }


def test_sglang_counts_neither_ranks_nor_priorities_twice() -> None:
    assert of_fixture("sglang") == {
        "Qwen/Qwen3-8B": {
            "running": 48.0,
            "waiting": 7.0,
            "deferred": 1.0,
            "cache_usage_ratio": 0.88,
            "finished": 3.0,
            "failed": 1.0,
            "preemptions": 2.0,
            "prompt_tokens": 300.0,
            "generated_tokens": 150.0,
            "request_seconds": 27.0,
            "queue_seconds": 12.0,
            "prefill_seconds": 0.75,
            "first_token_seconds": 1.5,
            "first_tokens": 3.0,
        }
    }


def test_sglang_sums_its_data_parallel_ranks() -> None:
    text = """\
sglang:num_running_reqs{dp_rank="0",model_name="m",tp_rank="0"} 3
sglang:num_running_reqs{dp_rank="1",model_name="m",tp_rank="1"} 4
"""
    assert read("sglang", text) == {"m": {"running": 7.0}}


def test_triton_sums_versions_and_turns_microseconds_into_seconds() -> None:
    values = of_fixture("triton")
    assert values["densenet_onnx"] == pytest.approx(
        {
            "waiting": 12.0,
            "finished": 400.0,
            "failed": 10.0,
            "executions": 100.0,
            "request_seconds": 80.0,
            "queue_seconds": 60.0,
            "input_seconds": 2.0,
            "compute_seconds": 16.0,
            "output_seconds": 1.0,
        }
    )
    assert values["tokenizer"]["waiting"] == 0.0
    assert values.keys() == {"densenet_onnx", "tokenizer"}


def test_tgi_names_no_model() -> None:
    assert of_fixture("tgi") == {
        "": {
            "running": 32.0,
            "waiting": 11.0,
            "finished": 40.0,
            "failed": 4.0,
            "prompt_tokens": 4000.0,
            "generated_tokens": 8000.0,
            "request_seconds": 200.0,
            "queue_seconds": 80.0,
            "input_seconds": 2.0,
            "compute_seconds": 118.0,
        }
    }


def test_torchserve_as_recorded_from_a_running_one() -> None:
    values = of_fixture("torchserve")
    assert values == {
        "slow": pytest.approx(
            {"finished": 48.0, "request_seconds": 19.206967, "queue_seconds": 14.244491}
        )
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_is_not_taken_for_another(kind: str) -> None:
    others = [other for other in KINDS if other != kind]
    assert all(read(other, (FIXTURES / f"{kind}.prom").read_text()) == {} for other in others)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=KINDS)
def test_every_field_is_one_of_the_samples(adapter: Adapter) -> None:
    assert adapter.fields.keys() <= set(sample_fields(ServedSample))


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "1e300"])
def test_what_is_no_reading_is_absent(value: str) -> None:
    text = f'vllm:num_requests_running{{model_name="m"}} {value}\n'
    assert read("vllm", text) == {}


def test_the_configuration_knows_every_kind() -> None:
    assert ADAPTER_KINDS == KINDS
