"""One GET against real sockets that behave badly."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pinchpoint.adapters.fetch import (
    BODY_BYTES_MAX,
    Answer,
    FetchError,
    RefusedError,
    SilentError,
    fetch,
)

PATIENCE_SECONDS = 30.0
IMPATIENCE_SECONDS = 0.2


@contextlib.contextmanager
def answering(*parts: bytes, hang_up: bool = True) -> Iterator[str]:
    """A server that sends these to whoever asks, as far as it is listened to."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    for part in parts:
                        connection.sendall(part)
                    if not hang_up:
                        done.wait(PATIENCE_SECONDS)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        done.set()
        thread.join()


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode() + body


def test_a_body_and_its_type() -> None:
    sent = answer("200 OK", "Content-Type: text/plain", "Content-Length: 4", body=b"a 1\n")
    with answering(sent, hang_up=False) as url:
        assert fetch(url, PATIENCE_SECONDS) == Answer("text/plain", b"a 1\n")


def test_a_body_in_chunks() -> None:
    sent = answer("200 OK", "Transfer-Encoding: chunked", body=b"2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n")
    with answering(sent) as url:
        assert fetch(url, PATIENCE_SECONDS).body == b"a 1\n"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (answer("404 Not Found"), "answers with HTTP 404"),
        (answer("503 Busy"), "answers with HTTP 503"),
        (answer("302 Found", "Location: http://127.0.0.1:1/"), "redirects"),
        (answer("200 OK", "Content-Encoding: gzip"), "compressed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP"),
        (b"", "does not answer in HTTP|cannot be reached"),
        (answer("200 OK", "Content-Length: 9", body=b"a 1\n"), "hangs up in mid-answer"),
        (answer("200 OK", "X: " + "x" * 100_000), "does not answer in HTTP"),
    ],
)
def test_an_answer_that_is_of_no_use_is_said(sent: bytes, said: str) -> None:
    with answering(sent) as url, pytest.raises(FetchError, match=said):
        fetch(url, PATIENCE_SECONDS)


def test_more_than_anybody_has_to_say_is_not_read() -> None:
    block = b"a 1\n" * (1 << 18)
    blocks = [block] * (2 * BODY_BYTES_MAX // len(block))
    with answering(answer("200 OK"), *blocks) as url, pytest.raises(FetchError, match="8 MiB"):
        fetch(url, PATIENCE_SECONDS)


CHUNKED = answer("200 OK", "Transfer-Encoding: chunked")
LINE = b"X: " + b"x" * 60_000 + b"\r\n"


@pytest.mark.parametrize(
    ("begin", "block"),
    [
        (CHUNKED + b"-1\r\n", LINE),
        (CHUNKED + b"0\r\n", LINE),
        (b"", b"HTTP/1.1 100 Continue\r\n" + LINE + b"\r\n"),
    ],
    ids=["a chunk of size -1", "trailers", "interim answers"],
)
def test_what_the_parser_does_not_bound_is_not_read_either(begin: bytes, block: bytes) -> None:
    blocks = [block] * (2 * BODY_BYTES_MAX // len(block))
    with (
        answering(begin, *blocks, hang_up=False) as url,
        pytest.raises(FetchError, match="8 MiB"),
    ):
        fetch(url, PATIENCE_SECONDS)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", answer("200 OK", body=b"a 1\n")])
def test_a_server_that_stops_in_the_middle_is_silent(sent: bytes) -> None:
    with answering(sent, hang_up=False) as url, pytest.raises(SilentError, match=r"within 0\.2 s"):
        fetch(url, IMPATIENCE_SECONDS)


def test_a_server_that_drips_is_silent_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while not ended.wait(0.01):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(SilentError):
                fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/", IMPATIENCE_SECONDS)
        finally:
            ended.set()
            thread.join()


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RefusedError):
        fetch(f"http://127.0.0.1:{port}/metrics", PATIENCE_SECONDS)


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(answer("200 OK", body=b"a 1\n")) as url:
        assert fetch(url, PATIENCE_SECONDS).body == b"a 1\n"
