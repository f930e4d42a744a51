"""MLServer with a torch model: gRPC and REST on one event loop, inference there or in workers."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.processes import Program
from tests.integration.scraping import Metrics
from tests.support.waiting import LIMIT_SECONDS, until
from tests.thirdparty.environment import BIN, PYTHON, SERVERS, is_listening, run, unused_port
from tests.thirdparty.observed import Observed, counts, is_whole

pytestmark = pytest.mark.integration

ROUNDS = 10
SERVICE = "inference.GRPCInferenceService"
MESSAGES = ("grpc_type", "grpc_method")
INFER = "/v2/models/{model_name}/infer"
ANSWERED = ("http_request_method", "http_route", "http_response_status_code")


class MLServer:
    """A running MLServer.

    Args:
        seen: who watches.
        workers: processes for inference; 0 has the server do it itself.
        directory: for what MLServer writes.
    """

    def __init__(self, seen: Observed, workers: int, directory: Path) -> None:
        self.http, self.grpc, self.metrics = unused_port(), unused_port(), unused_port()
        self.program: Program = seen.serve(
            BIN / "mlserver",
            "start",
            SERVERS / "scorer",
            directory=directory,
            MLSERVER_HOST="127.0.0.1",
            MLSERVER_HTTP_PORT=str(self.http),
            MLSERVER_GRPC_PORT=str(self.grpc),
            MLSERVER_METRICS_PORT=str(self.metrics),
            MLSERVER_PARALLEL_WORKERS=str(workers),
        )
        ports = (self.http, self.grpc, self.metrics)
        assert until(lambda: all(map(is_listening, ports))), self.program.err
        loaded = "Loaded model 'scorer' successfully"
        assert until(lambda: self._log().count(loaded) == 1 + workers), self._log()

    def _log(self) -> str:
        return self.program.out + self.program.err

    def drive(self, rounds: int, streams: int) -> str:
        """Call it so often: the code of the calls that its model has refused."""
        said = run(PYTHON, SERVERS / "mlserver_client.py", self.http, self.grpc, rounds, streams)
        (code,) = set(re.findall(r"^failed (\w+)$", said, re.MULTILINE))
        return str(code)

    def own_count(self) -> Metrics:
        """Its own metrics, by py-grpc-prometheus and starlette_exporter."""
        url = f"http://127.0.0.1:{self.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=LIMIT_SECONDS) as response:
            return Metrics(text_string_to_metric_families(response.read().decode()))

    def quiet(self) -> bool:
        """Whether the probe has said nothing in it."""
        return "pinchpoint: " not in self._log()


def check_rpcs(metrics: Metrics, refused: str, streams: int) -> None:
    """Every RPC by its code, every message; its readiness is nobody's inference."""
    assert counts(metrics, "grpc_server_started_total", "grpc_service").keys() == {(SERVICE,)}
    infer, stream = ("unary", "ModelInfer"), ("bidi_stream", "ModelStreamInfer")
    metadata = ("unary", "ModelMetadata")
    assert counts(metrics, "grpc_server_handled_total", *MESSAGES, "grpc_code") == +Counter(
        {
            (*metadata, "OK"): ROUNDS,
            (*infer, "OK"): ROUNDS,
            (*infer, refused): ROUNDS,
            (*infer, "NOT_FOUND"): ROUNDS,
            (*stream, "OK"): streams,
        }
    )
    calls = +Counter({metadata: ROUNDS, infer: 3 * ROUNDS, stream: streams})
    assert counts(metrics, "grpc_server_started_total", *MESSAGES) == calls
    assert counts(metrics, "grpc_server_msg_received_total", *MESSAGES) == +Counter(
        {**calls, stream: 2 * streams}
    )
    assert counts(metrics, "grpc_server_msg_sent_total", *MESSAGES) == +Counter(
        {metadata: ROUNDS, infer: ROUNDS, stream: 4 * streams}
    )


def check_http(metrics: Metrics) -> None:
    """Every request by its route and status; health and metrics are nobody's inference."""
    assert counts(metrics, "http_server_request_duration_seconds_count", *ANSWERED) == {
        ("GET", "/v2/models/{model_name}", "200"): ROUNDS,
        ("POST", INFER, "200"): ROUNDS,
        ("POST", INFER, "404"): ROUNDS,
    }
    named = counts(metrics, "pinchpoint_request_seconds_count", "grpc_service", "grpc_method")
    assert named["http", f"POST {INFER}"] == 2 * ROUNDS


def check_forwards(metrics: Metrics, streams: int) -> None:
    """Every forward and its rows: one for all rows of a request, one for each row of a stream."""
    name = "pinchpoint_forward_seconds_count"
    assert counts(metrics, name, "model") == {("Scorer",): 2 * ROUNDS + 4 * streams}
    rows = metrics.values("pinchpoint_batch_size_sum", model="Scorer")
    assert rows == [2 * 2 * ROUNDS + 4 * streams]


def check_against_its_own(metrics: Metrics, own: Metrics) -> None:
    """MLServer's own interceptor counts the starts of unary RPCs, and not how the failed end."""
    for method in ("ModelMetadata", "ModelInfer"):
        started = {"grpc_method": method, "grpc_service": SERVICE}
        name = "grpc_server_started_total"
        assert own.total(name, **started) == metrics.total(name, **started) > 0


def observe(seen: Observed, directory: Path, workers: int, streams: int) -> Metrics:
    """Drive an MLServer, end it and check its requests: what has been counted."""
    server = MLServer(seen, workers, directory)
    refused = server.drive(ROUNDS, streams)
    own = server.own_count()
    seen.await_count("grpc_server_handled_total", 4 * ROUNDS + streams)
    seen.await_count("http_server_request_duration_seconds_count", 3 * ROUNDS)
    server.program.stop()
    metrics = seen.final()
    check_rpcs(metrics, refused, streams)
    check_http(metrics)
    check_against_its_own(metrics, own)
    assert is_whole(metrics)
    assert server.quiet()
    return metrics


def test_every_rpc_request_and_forward_of_one_process_is_counted(
    seen: Observed, tmp_path: Path
) -> None:
    check_forwards(observe(seen, tmp_path, workers=0, streams=5), streams=5)


def test_every_rpc_and_request_before_inference_workers_is_counted(
    seen: Observed, tmp_path: Path
) -> None:
    observe(seen, tmp_path, workers=2, streams=0)


@pytest.mark.xfail(strict=True, reason="a process that serves nothing itself has no ring")
def test_every_forward_in_inference_workers_is_counted(seen: Observed, tmp_path: Path) -> None:
    server = MLServer(seen, 2, tmp_path)
    server.drive(ROUNDS, 0)
    server.program.stop()
    check_forwards(seen.final(), streams=0)
