"""One GET of a server's metrics that ends in time and in memory, whatever answers.

The deadline is for the whole exchange: a limit on each read would let a server that sends a
byte a second hold the reader for ever. Redirects are not followed, proxies of the environment are
not asked, and nothing is decompressed.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pinchpoint.adapters.exposition import OPENMETRICS, TEXT

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BODY_BYTES_MAX = 8 << 20
"""About forty times what a busy server with ten models says."""

HEAD_BYTES_MAX = 1 << 20
"""What may come beside the body: heads, trailers, the sizes of chunks."""

READ_BYTES = 1 << 16

ACCEPT = f"{TEXT};version=0.0.4,{OPENMETRICS};q=0.1"


class FetchError(Exception):
    """No answer that can be used; the message completes "it …"."""


class RefusedError(FetchError):
    """Nothing listens there: the server is gone."""


class SilentError(FetchError):
    """It listens and does not answer in time: the server hangs."""


class TooLongError(FetchError):
    """More comes than any server has to say."""

    def __init__(self) -> None:
        super().__init__(f"answers with more than {BODY_BYTES_MAX >> 20} MiB")


class Answer(NamedTuple):
    """A body and its type."""

    content_type: str
    body: bytes


def fetch(url: str, timeout_seconds: float) -> Answer:
    """The answer to one GET.

    Raises:
        FetchError: there is none that can be used.
    """
    deadline = time.monotonic() + timeout_seconds
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_seconds)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection.connect()
        connection.request("GET", target, headers={"Accept": ACCEPT, "Connection": "close"})
        readable: Any = _Readable(connection.sock, deadline)
        response = http.client.HTTPResponse(readable, method="GET")
        response.begin()
        return _answer(response)
    except TimeoutError as error:
        raise SilentError(f"does not answer within {timeout_seconds:g} s") from error
    except ConnectionRefusedError as error:
        raise RefusedError("refuses connections: nothing listens there") from error
    except OSError as error:
        raise FetchError(f"cannot be reached ({error.strerror or error})") from error
    except (http.client.HTTPException, ValueError) as error:
        raise FetchError("does not answer in HTTP") from error
    finally:
        connection.close()


def _answer(response: http.client.HTTPResponse) -> Answer:
    if 300 <= response.status < 400:
        raise FetchError(f"redirects (HTTP {response.status}), which is not followed")
    if response.status != http.client.OK:
        raise FetchError(f"answers with HTTP {response.status}")
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise FetchError("answers compressed, which was not asked for")
    body = bytearray()
    while block := response.read(READ_BYTES):
        body += block
        if len(body) > BODY_BYTES_MAX:
            raise TooLongError
    if response.length:  # a cut-off line would be a wrong number
        raise FetchError("hangs up in mid-answer")
    return Answer(response.getheader("Content-Type", ""), bytes(body))


class _Bytes(io.RawIOBase):
    """What a socket sends until a deadline, and no more than a whole answer may be: the parser
    bounds neither the size of a chunk nor the number of trailers."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline
        self._left_bytes = BODY_BYTES_MAX + HEAD_BYTES_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)
        received = self._socket.recv_into(buffer)
        self._left_bytes -= received
        if self._left_bytes < 0:
            raise TooLongError
        return received


class _Readable:
    """What `HTTPResponse` wants of a socket: a file."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._bytes = _Bytes(connected, deadline)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._bytes, READ_BYTES)
