"""Clients that are slow, silent or many, against a real server."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pinchpoint.expose import http_handler
from pinchpoint.expose.http import HttpServer, serve, split_address
from pinchpoint.expose.http_connections import CONNECTIONS_MAX, Connection, Connections
from pinchpoint.expose.state import PublishedState
from tests.support.waiting import until

HALF = b"GET /-/healthy HTTP/1.1\r\nHost: a"
WHOLE = b"GET /-/healthy HTTP/1.1\r\n\r\n"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    server = serve("127.0.0.1:0", PublishedState())
    yield server
    server.close()


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Closes what is connected."""
    with ExitStack() as stack:
        yield stack


def connect(server: HttpServer, clients: ExitStack, sent: bytes = b"") -> socket.socket:
    address = split_address(server.address)
    client = clients.enter_context(socket.create_connection(address, timeout=30))
    client.sendall(sent)
    return client


def ask(server: HttpServer) -> int:
    connection = http.client.HTTPConnection(server.address, timeout=30)
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status
    finally:
        connection.close()


def answered(client: socket.socket) -> int:
    """The status of an answer, read to its end."""
    with http.client.HTTPResponse(client) as response:
        response.begin()
        response.read()
        return response.status


def busy(server: HttpServer) -> int:
    """Connections that are in the middle of a request."""
    table = server._server.connections
    return sum(not connection.idle for connection in list(table._open.values()))


def ended(client: socket.socket) -> bool:
    """Whether the server has ended a connection that had nothing more to say."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_clients_that_are_slow_do_not_hold_up_others(
    server: HttpServer, clients: ExitStack
) -> None:
    """Nor the one that accepts them."""
    for _ in range(CONNECTIONS_MAX - 1):
        connect(server, clients, HALF)
    assert ask(server) == 200


def test_a_connection_too_many_is_refused_in_a_sentence(
    server: HttpServer, clients: ExitStack
) -> None:
    """While all others are busy; as soon as one has ended there is room again."""
    held = [connect(server, clients, HALF) for _ in range(CONNECTIONS_MAX)]
    assert until(lambda: busy(server) == CONNECTIONS_MAX)
    refused = connect(server, clients)
    answer = b""
    while some := refused.recv(4096):
        answer += some
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.endswith(b"\r\n\r\ntoo many connections are open: try again\n")
    held[0].close()
    assert until(lambda: busy(server) == CONNECTIONS_MAX - 1)
    assert ask(server) == 200


def test_the_longest_idle_connection_makes_room_for_a_new_one(
    server: HttpServer, clients: ExitStack
) -> None:
    """Scrapers keep theirs open; none of them must lock out another."""
    kept = []
    for _ in range(CONNECTIONS_MAX):
        client = connect(server, clients, WHOLE)
        assert answered(client) == 200
        kept.append(client)
    assert until(lambda: busy(server) == 0)
    assert ask(server) == 200
    assert ended(kept[0])
    kept[-1].sendall(WHOLE)
    assert answered(kept[-1]) == 200


@pytest.mark.parametrize(("limit", "sent"), [("HEAD_SECONDS", HALF), ("IDLE_SECONDS", b"")])
def test_a_client_that_takes_too_long_is_cut(
    server: HttpServer,
    clients: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    limit: str,
    sent: bytes,
) -> None:
    """In the middle of a request, or before any; in silence."""
    monkeypatch.setattr(http_handler, limit, 0.0)
    client = connect(server, clients, sent)
    assert until(lambda: ended(client))
    assert until(lambda: not server._server.connections._open)
    assert capfd.readouterr().err == ""


def test_a_client_that_does_not_read_is_cut(clients: ExitStack) -> None:
    """The thread that writes to it finds out."""
    ours, theirs = socket.socketpair()
    clients.enter_context(ours)
    clients.enter_context(theirs)
    table = Connections()
    assert table.admit(ours)
    outcome: list[str] = []

    def write() -> None:
        try:
            ours.sendall(b"x" * 100_000_000)
        except OSError as error:
            outcome.append(type(error).__name__)

    writer = threading.Thread(target=write)
    writer.start()
    table.of(ours).expect(0.0)

    def cut() -> list[str]:
        table.cut_overdue()
        return outcome

    assert until(cut) == ["BrokenPipeError"]
    writer.join()


def test_closing_ends_the_connections_that_are_open(clients: ExitStack) -> None:
    """None of their threads outlives the server."""
    server = serve("127.0.0.1:0", PublishedState())
    client = connect(server, clients, HALF)
    assert until(lambda: busy(server) == 1)
    server.close()
    assert ended(client) or client.recv(65536)
    assert until(lambda: not server._server.connections._open)


def test_cutting_a_connection_that_has_ended_is_nothing() -> None:
    """Its thread may be faster."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    ours.close()
    theirs.close()
    connection.cut()
