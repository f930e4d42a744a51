from __future__ import annotations

import gzip
import http.client
import json
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from pinchpoint.errors import AddressError
from pinchpoint.expose.http import HttpServer, serve, split_address
from pinchpoint.expose.state import PublishedState
from pinchpoint.snapshot import AgentFacts
from tests.support.observations import known

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[HttpServer, PublishedState]]:
    """One server for all tests: closing takes as long as its poll interval."""
    state = PublishedState()
    server = serve("127.0.0.1:0", state)
    yield server, state
    server.close()


@pytest.fixture
def state(running: tuple[HttpServer, PublishedState]) -> PublishedState:
    """What the server publishes, as it is at the beginning of every test."""
    _, state = running
    state.snapshot, state.ready = known().pipeline.snapshot(AgentFacts()), True
    return state


@pytest.fixture
def server(running: tuple[HttpServer, PublishedState], state: PublishedState) -> HttpServer:
    return running[0]


def ask(
    server: HttpServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.address, timeout=30)
    try:
        connection.request(
            method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_metrics_are_prometheus_text_unless_asked_otherwise(server: HttpServer) -> None:
    """Every scraper reads it."""
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    families = {family.name for family in prometheus_text(body.decode())}
    assert {"grpc_server_handled", "pinchpoint_bottleneck_primary_info"} <= families


def test_metrics_are_open_metrics_where_they_are_accepted(server: HttpServer) -> None:
    """The strict parser takes them, up to the end mark."""
    _, headers, body = ask(server, "/metrics", Accept=OPEN_METRICS)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    parsed = open_metrics(body.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family.type for family in parsed}
    assert families["grpc_server_handled"] == "counter"
    assert families["pinchpoint_request_seconds"] == "histogram"


def test_metrics_are_compressed_where_that_is_accepted(server: HttpServer) -> None:
    """And say the same."""
    _, plain_headers, plain = ask(server, "/metrics")
    _, headers, body = ask(server, "/metrics", Accept_Encoding="gzip, deflate")
    assert "Content-Encoding" not in plain_headers
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < len(plain)
    assert gzip.decompress(body) == plain


def test_a_head_request_has_the_headers_and_no_body(server: HttpServer) -> None:
    """Their length is that of the body that a GET would have."""
    _, _, body = ask(server, "/metrics")
    status, headers, nothing = ask(server, "/metrics", "HEAD")
    assert (status, nothing) == (200, b"")
    assert int(headers["Content-Length"]) == len(body)


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/api/v1/", "/../etc/passwd"])
def test_an_unknown_path_is_not_found(server: HttpServer, path: str) -> None:
    """With a hint at what there is."""
    status, _, body = ask(server, path)
    assert status == 404
    assert b"/" in body


def test_a_query_string_does_not_change_the_path(server: HttpServer) -> None:
    """Prometheus may send parameters."""
    assert ask(server, "/metrics?x=1")[0] == 200


def test_other_methods_are_refused(server: HttpServer) -> None:
    """Nothing here can be written."""
    assert ask(server, "/metrics", "POST")[0] == 501


def test_the_landing_page_links_to_what_there_is(server: HttpServer) -> None:
    """Each of its links answers."""
    _, headers, body = ask(server, "/")
    assert headers["Content-Type"].startswith("text/html")
    for path in ("metrics", "api/v1/verdict", "-/healthy", "-/ready"):
        assert f'href="{path}"' in body.decode()
        assert ask(server, f"/{path}")[0] == 200


def test_ready_once_the_agent_has_looked_for_rings(
    server: HttpServer, state: PublishedState
) -> None:
    """Alive from the start, ready after the first look."""
    state.ready = False
    assert ask(server, "/-/ready")[0] == 503
    assert ask(server, "/-/healthy")[0] == 200
    state.ready = True
    assert ask(server, "/-/ready")[0] == 200


def test_the_verdict_is_json(server: HttpServer) -> None:
    """With its schema, and its units in the keys."""
    status, headers, body = ask(server, "/api/v1/verdict")
    document = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (document["schema"], document["state"]) == (1, "healthy")


def test_before_the_first_snapshot_there_is_no_verdict_and_no_series(
    server: HttpServer, state: PublishedState
) -> None:
    """The one is an error to try again after, the other an empty scrape."""
    state.snapshot = None
    status, _, body = ask(server, "/api/v1/verdict")
    assert status == 503
    assert "error" in json.loads(body)
    status, _, body = ask(server, "/metrics")
    assert (status, body) == (200, b"")


def test_a_connection_is_kept_for_the_next_scrape(server: HttpServer) -> None:
    """Prometheus does not connect anew every time."""
    connection = http.client.HTTPConnection(server.address, timeout=30)
    try:
        for _ in range(3):
            connection.request("GET", "/-/healthy")
            response = connection.getresponse()
            assert response.read() == b"healthy\n"
            assert not response.will_close
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0.0.0.0:10061", ("0.0.0.0", 10061)),
        (":10061", ("0.0.0.0", 10061)),
        ("[::1]:9", ("::1", 9)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_listen_addresses_are_host_and_port(address: str, expected: tuple[str, int]) -> None:
    """No host is every host of IPv4."""
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10061",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:-1",
        "localhost:65536",
        "localhost:²",
        "localhost:" + "9" * 5000,
    ],
)
def test_a_malformed_address_is_told_in_a_sentence(address: str) -> None:
    """With an example of one that is not."""
    with pytest.raises(AddressError, match="write HOST:PORT"):
        serve(address, PublishedState())


@pytest.mark.parametrize("host", ["a" * 70, "192.0.2.1"])
def test_a_host_that_is_not_ours_is_told_in_a_sentence(host: str) -> None:
    """No name at all, or another machine's."""
    with pytest.raises(AddressError, match=r"cannot listen on .*--web\.listen-address"):
        serve(f"{host}:0", PublishedState())


def test_a_taken_port_is_told_in_a_sentence(server: HttpServer) -> None:
    """A second agent must not share it in silence."""
    with pytest.raises(AddressError, match="in use"):
        serve(server.address, PublishedState())


def test_a_closed_server_leaves_its_port_and_no_thread(state: PublishedState) -> None:
    """The next agent can listen there at once."""
    before = set(threading.enumerate())
    first = serve("127.0.0.1:0", state)
    assert ask(first, "/-/healthy")[0] == 200
    first.close()
    with pytest.raises(ConnectionRefusedError):
        ask(first, "/-/healthy")
    second = serve(first.address, state)
    second.close()
    assert {thread for thread in threading.enumerate() if thread.name == "http"} <= before
