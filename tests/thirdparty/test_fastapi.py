"""A FastAPI application with a torch model under the servers that its users run."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from tests.integration.processes import Program
from tests.integration.scraping import Metrics
from tests.support.waiting import until
from tests.thirdparty.environment import BIN, PYTHON, SERVERS, descendants, run
from tests.thirdparty.observed import Observed, counts, is_whole

pytestmark = pytest.mark.integration

APP = "fastapi_app:app"
ROUNDS = 10
RESTARTS = 6
ANSWERED = ("http_request_method", "http_route", "http_response_status_code")
ROUTED = Counter(
    {
        ("POST", "/predict", "200"): ROUNDS,
        ("POST", "/predict-async", "200"): ROUNDS,
        ("GET", "/items/{item_id}", "200"): ROUNDS,
        ("GET", "/items/{item_id}", "422"): ROUNDS,
        ("GET", "/stream", "200"): ROUNDS,
        ("GET", "/refused", "503"): ROUNDS,
        ("GET", "/broken", "500"): ROUNDS,
    }
)
UNROUTED = Counter({("GET", "404"): ROUNDS, ("GET", "405"): ROUNDS})

UVICORN = (BIN / "uvicorn", APP, "--app-dir", SERVERS, "--host", "127.0.0.1", "--port", "0")
GUNICORN = (BIN / "gunicorn", APP, "--chdir", SERVERS, "--bind", "127.0.0.1:0", "--workers", "2")
WORKER = ("--worker-class", "uvicorn_worker.UvicornWorker")

COMMANDS = {
    "uvicorn": (1, UVICORN),
    "uvicorn-2-workers": (2, (*UVICORN, "--workers", "2")),
    "gunicorn": (2, (*GUNICORN, *WORKER)),
    "gunicorn-preloaded": (2, (*GUNICORN, *WORKER, "--preload")),
}


def serve(seen: Observed, name: str) -> tuple[Program, str]:
    """A server whose workers are all there, and its address."""
    workers, command = COMMANDS[name]
    program = seen.serve(*command)
    address = program.says(r"(?:running on|Listening at:) (http://[\d.:]+)")
    assert until(lambda: program.err.count("Application startup complete") == workers), program.err
    return program, address


def requests(metrics: Metrics) -> tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
    """Requests with a route, by all their labels; those without one, by method and status."""
    found = counts(metrics, "http_server_request_duration_seconds_count", *ANSWERED)
    routed = Counter({key: n for key, n in found.items() if key in ROUTED})
    unrouted: Counter[tuple[str, ...]] = Counter()
    for (method, route, status), number in (found - routed).items():
        assert "nowhere" not in route
        unrouted[method, status] += number
    return routed, unrouted


def replace(seen: Observed, victim: int) -> None:
    """Kill a worker and wait for another in its place."""
    os.kill(victim, signal.SIGKILL)

    def is_replaced() -> bool:
        pids = seen.ring_pids()
        return len(pids) == 2 and victim not in pids

    assert until(is_replaced), seen.ring_pids()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_request_and_forward_is_counted(seen: Observed, name: str) -> None:
    program, address = serve(seen, name)
    run(PYTHON, SERVERS / "http_client.py", address, ROUNDS)
    workers = COMMANDS[name][0]
    pids = seen.ring_pids()
    assert len(pids) == len(set(pids)) == workers
    assert set(pids) <= {program.pid, *descendants(program.pid)}
    seen.await_count("http_server_request_duration_seconds_count", (ROUTED + UNROUTED).total())
    program.stop()
    metrics = seen.final()

    routed, unrouted = requests(metrics)
    assert routed == ROUTED
    assert unrouted == UNROUTED
    by_name = counts(metrics, "pinchpoint_request_seconds_count", "grpc_service", "grpc_method")
    assert by_name["http", "POST /predict"] == ROUNDS
    assert by_name["http", "GET /items/{item_id}"] == 2 * ROUNDS
    assert sum(by_name.values()) == (ROUTED + UNROUTED).total()
    assert counts(metrics, "pinchpoint_forward_seconds_count", "model") == {("Scorer",): 2 * ROUNDS}
    assert metrics.values("pinchpoint_batch_size_sum", model="Scorer") == [2 * 2 * ROUNDS]
    assert is_whole(metrics)
    assert "pinchpoint: " not in program.err


@pytest.mark.parametrize("name", ["uvicorn-2-workers", "gunicorn", "gunicorn-preloaded"])
def test_workers_that_are_replaced_leave_their_counts_and_nothing_else(
    seen: Observed, name: str
) -> None:
    program, address = serve(seen, name)
    each = (ROUTED + UNROUTED).total() // ROUNDS
    for restart in range(RESTARTS):
        run(PYTHON, SERVERS / "http_client.py", address, 1)
        seen.await_count("http_server_request_duration_seconds_count", (restart + 1) * each)
        replace(seen, seen.ring_pids()[restart % 2])
    assert seen.fresh().values("pinchpoint_rings") == [2]
    assert set(seen.ring_pids()) <= set(descendants(program.pid))
    program.stop()
    metrics = seen.final()
    routed, unrouted = requests(metrics)
    assert (routed + unrouted).total() == RESTARTS * each
    assert counts(metrics, "pinchpoint_forward_seconds_count", "model") == {
        ("Scorer",): RESTARTS * 2
    }
    assert not list(seen.rings.iterdir())
