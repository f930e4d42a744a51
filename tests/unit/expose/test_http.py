from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from pinchpoint.errors import AddressError
from pinchpoint.expose.http import DEFAULTS, HttpServer, serve, split_address
from pinchpoint.expose.http_handler import HEAD_BYTES_MAX
from pinchpoint.expose.state import PublishedState, ScrapeStats
from pinchpoint.expose.web_options import WebOptions
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


@contextmanager
def serving(
    state: PublishedState, options: WebOptions = DEFAULTS, **callbacks: Any
) -> Iterator[HttpServer]:
    """A server of its own; its scrapes are counted from zero."""
    state.scrapes = ScrapeStats()
    server = serve("127.0.0.1:0", state, options, **callbacks)
    try:
        yield server
    finally:
        server.close()


def talk(server: HttpServer, sent: bytes) -> bytes:
    """All that is answered to these bytes, however the server ends it."""
    host, port = split_address(server.address)
    received = b""
    with (
        socket.create_connection((host, port), timeout=30) as client,
        suppress(ConnectionError),
    ):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while some := client.recv(65536):
            received += some
    return received


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


@pytest.mark.parametrize("accept_encoding", ["gzip, deflate", "gzip;q=0.5"])
def test_metrics_are_compressed_where_that_is_accepted(
    server: HttpServer, accept_encoding: str
) -> None:
    """And say the same."""
    path = "/metrics?name[]=grpc_server_handling_seconds&name[]=pinchpoint_request_seconds"
    _, plain_headers, plain = ask(server, path)
    _, headers, body = ask(server, path, Accept_Encoding=accept_encoding)
    assert "Content-Encoding" not in plain_headers
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert len(body) < len(plain)
    assert gzip.decompress(body) == plain


@pytest.mark.parametrize("accept_encoding", ["gzip;q=0", "identity, gzip;q=0.1", "deflate"])
def test_metrics_are_not_compressed_where_that_is_unwelcome(
    server: HttpServer, accept_encoding: str
) -> None:
    """Not every mention of gzip is a wish."""
    _, headers, body = ask(server, "/metrics", Accept_Encoding=accept_encoding)
    assert "Content-Encoding" not in headers
    assert body.startswith(b"# HELP")


@pytest.mark.parametrize(
    "accept", ["", "text/html", "application/openmetrics-text;version=abc", "\x01", ",;=,"]
)
def test_the_content_type_is_never_blank(server: HttpServer, accept: str) -> None:
    """Prometheus 3 refuses such a scrape."""
    status, headers, _ = ask(server, "/metrics", Accept=accept)
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")


def test_the_escaping_of_names_is_told(server: HttpServer) -> None:
    """To those who ask for one."""
    accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
    _, headers, _ = ask(server, "/metrics", Accept=accept)
    assert headers["Content-Type"] == f"{OPEN_METRICS}; escaping=allow-utf-8"


def test_only_the_families_that_are_named_are_given(server: HttpServer) -> None:
    """Several, by sample or family; the brackets may be escaped."""
    query = "name%5B%5D=pinchpoint_rings&name[]=grpc_server_started_total"
    _, _, body = ask(server, f"/metrics?{query}")
    families = [family.name for family in prometheus_text(body.decode())]
    assert families == ["grpc_server_started", "pinchpoint_rings"]
    assert ask(server, "/metrics?name[]=nothing")[::2] == (200, b"")


def test_protobuf_is_given_only_where_it_is_switched_on(
    server: HttpServer, state: PublishedState
) -> None:
    """It is what makes Prometheus store native histograms instead of the classic ones."""
    accept = (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    )
    assert ask(server, "/metrics", Accept=accept)[1]["Content-Type"].startswith("text/plain")
    with serving(state, WebOptions(native_histograms=True)) as native:
        _, headers, body = ask(native, "/metrics", Accept=accept)
    assert headers["Content-Type"].startswith("application/vnd.google.protobuf; proto=io.prom")
    assert b"grpc_server_started_total" in body


def test_a_head_request_has_the_headers_and_no_body(server: HttpServer) -> None:
    """Their length is that of the body that a GET would have."""
    path = "/metrics?name[]=grpc_server_handling_seconds"
    _, _, body = ask(server, path)
    status, headers, nothing = ask(server, path, "HEAD")
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


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(server: HttpServer, method: str) -> None:
    """Nothing here can be written."""
    status, headers, body = ask(server, "/metrics", method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"only GET, HEAD\n")


def test_a_method_that_does_not_exist_is_told_in_a_sentence(server: HttpServer) -> None:
    """As text, like every error."""
    status, headers, body = ask(server, "/metrics", "BREW")
    assert (status, headers["Content-Type"]) == (501, "text/plain; charset=utf-8")
    assert body.startswith(b"Unsupported method")


@pytest.mark.parametrize(
    "announced",
    [
        b"Content-Length: 25",
        b"Content-Length: 0\r\nContent-Length: 25",
        b"Content-Length : 25",
        b"Transfer-Encoding: chunked",
    ],
    ids=["length", "lengths", "space", "chunks"],
)
def test_a_body_is_not_taken_for_the_next_request(server: HttpServer, announced: bytes) -> None:
    """Nobody reads it, so the connection ends with the answer, however the body is announced."""
    head = b"POST /metrics HTTP/1.1\r\n" + announced + b"\r\n\r\n"
    answer = talk(server, head + b"GET /-/ready HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(("more", "status"), [(0, b"200"), (1, b"431")])
def test_a_head_takes_up_to_a_number_of_bytes(server: HttpServer, more: int, status: bytes) -> None:
    """The request line and all headers together: whoever sends them is not known yet."""
    line = b"A: " + b"b" * 8187 + b"\r\n"
    head = b"GET /-/healthy HTTP/1.1\r\n" + line * 7
    last = b"A: " + b"b" * (HEAD_BYTES_MAX - len(head) - len(b"A: \r\n\r\n") + more) + b"\r\n"
    assert talk(server, head + last + b"\r\n").startswith(b"HTTP/1.1 " + status)


def test_each_request_of_a_connection_has_a_head_of_its_own(server: HttpServer) -> None:
    """What the one before has taken is not counted."""
    request = b"GET /-/healthy HTTP/1.1\r\nA: " + b"b" * (HEAD_BYTES_MAX // 2) + b"\r\n\r\n"
    assert talk(server, request * 3).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /metrics?" + b"&".join([b"name[]=x"] * 2000) + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["tls", "short", "version", "address", "long", "headers", "parameters"],
)
def test_nonsense_is_told_so_and_the_server_goes_on(
    server: HttpServer, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a sentence, without a word on standard error."""
    assert b"Traceback" not in talk(server, sent)
    assert ask(server, "/-/healthy")[0] == 200
    assert capfd.readouterr().err == ""


def test_metrics_that_cannot_be_rendered_are_an_answer(
    state: PublishedState, capfd: pytest.CaptureFixture[str]
) -> None:
    """A sentence for the scraper and, once, for the operator; counted; the rest goes on."""
    told: list[str] = []
    assert state.snapshot is not None
    broken: Any = "no mapping"
    with serving(state, say=told.append) as server:
        good, state.snapshot = state.snapshot, replace(state.snapshot, lost=broken)
        for _ in range(2):
            status, headers, body = ask(server, "/metrics")
            assert (status, headers["Content-Type"]) == (500, "text/plain; charset=utf-8")
            assert body.startswith(b"/metrics could not be answered (AttributeError: ")
        assert ask(server, "/-/healthy")[0] == 200
        state.snapshot = good
        _, _, body = ask(server, "/metrics")
    assert len(told) == 1
    assert "please report this" in told[0]
    assert capfd.readouterr().err == ""
    assert b"pinchpoint_scrape_errors_total 2.0\n" in body
    assert b'pinchpoint_scrapes_total{code="500"} 2.0\n' in body


def test_scrapes_are_counted_by_status(state: PublishedState) -> None:
    """Those of the metrics only, and the last one's duration is told."""
    with serving(state) as server:
        assert ask(server, "/metrics")[0] == 200
        assert ask(server, "/metrics", "POST")[0] == 405
        assert ask(server, "/-/healthy")[0] == 200
        _, _, body = ask(server, "/metrics")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in prometheus_text(body.decode())
        for sample in family.samples
        if sample.name.startswith("pinchpoint_scrape")
    }
    assert found.pop(("pinchpoint_scrape_duration_seconds",)) > 0
    assert found == {
        ("pinchpoint_scrapes_total", "200"): 1.0,
        ("pinchpoint_scrapes_total", "405"): 1.0,
        ("pinchpoint_scrape_errors_total",): 0.0,
    }


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
    assert ask(server, "/-/ready")[::2] == (503, b"Pinchpoint is starting.\n")
    assert ask(server, "/-/healthy")[0] == 200
    state.ready = True
    assert ask(server, "/-/ready")[::2] == (200, b"Pinchpoint is Ready.\n")


def test_reloading_is_refused_unless_it_is_enabled(server: HttpServer) -> None:
    """With the flag that enables it."""
    status, _, body = ask(server, "/-/reload", "POST")
    assert status == 403
    assert b"--web.enable-lifecycle" in body


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reloading_says_whether_it_went_well(state: PublishedState, method: str) -> None:
    """By its status, and a sentence if not."""
    answers: list[str | None] = [None, "agent.yml:3: web.listen is unknown"]
    options = WebOptions(enable_lifecycle=True)
    with serving(state, options, reload=lambda: answers.pop(0)) as server:
        assert ask(server, "/-/reload", method)[0] == 200
        status, _, body = ask(server, "/-/reload", method)
    assert status == 500
    assert b"not reloaded: agent.yml:3: web.listen is unknown" in body


def test_reloading_by_a_link_is_refused(state: PublishedState) -> None:
    """A browser that looks ahead must change nothing."""
    asked: list[None] = []
    options = WebOptions(enable_lifecycle=True)
    with serving(state, options, reload=lambda: asked.append(None)) as server:
        status, headers, _ = ask(server, "/-/reload")
    assert (status, headers["Allow"]) == (405, "POST, PUT")
    assert not asked


def test_a_reload_that_breaks_is_an_answer(state: PublishedState) -> None:
    """The agent goes on with what it had."""

    def broken() -> str | None:
        raise RuntimeError("no")

    with serving(state, WebOptions(enable_lifecycle=True), reload=broken) as server:
        assert ask(server, "/-/reload", "POST")[0] == 500


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
            assert response.read() == b"Pinchpoint is Healthy.\n"
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
        "::1:9",
        "[::1:9",
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
