"""One connection's requests: HTTP, authentication and compression; answers are the site's."""

from __future__ import annotations

import gzip
import time
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from ssl import SSLSocket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pinchpoint import __version__
from pinchpoint.expose.http_connections import (
    ANSWER_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    Connection,
)
from pinchpoint.expose.negotiate import gzip_wanted
from pinchpoint.expose.web_file import Web, WebFile
from pinchpoint.expose.web_site import METRICS, PLAIN, Answer, Request, Site

if TYPE_CHECKING:
    from socketserver import BaseServer

GZIP_LEVEL = 1
"""Level 9, the usual default, takes 15 times as long for a few percent (INPROCESS 5)."""

GZIP_BYTES_MIN = 1024
"""Less fits into one packet anyway."""

PARAMETERS_MAX = 1000

HEAD_BYTES_MAX = 1 << 16
"""Of the request line and all headers together, which are held before anybody is known. Scrapers
need some 500."""

ONLY_HTTPS = b"only HTTPS is spoken here: write https://\n"

_UNAUTHORIZED = Answer(
    401,
    PLAIN,
    b"a user and password are needed\n",
    (("WWW-Authenticate", 'Basic realm="pinchpoint", charset="UTF-8"'),),
)

_NO_TLS = Answer(400, PLAIN, ONLY_HTTPS)

_NONSENSE = Answer(400, PLAIN, b"the address cannot be understood\n")


class Handler(BaseHTTPRequestHandler):
    """Serves a connection until either side ends it."""

    raw_requestline: bytes
    server_version = f"pinchpoint/{__version__}"
    protocol_version = "HTTP/1.1"
    # Head and body are two packets: the second would wait 40 ms until the first is confirmed.
    disable_nagle_algorithm = True
    error_content_type = PLAIN
    error_message_format = "%(message)s\n"

    def __init__(
        self,
        request: Any,
        client_address: Any,
        server: BaseServer,
        connection: Connection,
        site: Site,
        web: WebFile,
    ) -> None:
        self._held, self._site, self._web = connection, site, web
        super().__init__(request, client_address, server)

    def version_string(self) -> str:
        """Ours, and not Python's."""
        return self.server_version

    def handle_one_request(self) -> None:
        """Wait for a request, however long is allowed; then be strict."""
        self._held.expect(IDLE_SECONDS, idle=True)
        if not self.rfile.peek(1):  # type: ignore[attr-defined]
            self.close_connection = True
            return
        self._held.expect(HEAD_SECONDS)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the head, up to a size."""
        whole = self.rfile
        self.rfile = _Bounded(whole, HEAD_BYTES_MAX - len(self.raw_requestline))  # type: ignore[assignment]
        try:
            return super().parse_request()
        finally:
            self.rfile = whole

    def _serve(self) -> None:
        self._held.expect(ANSWER_SECONDS)
        started = time.perf_counter()
        web = self._web.current()
        made_with = self.connection.context if isinstance(self.connection, SSLSocket) else None
        if self._more_follows() or made_with is not web.context:
            self.close_connection = True
        request = self._request(web)
        answer = self._answer(web, request)
        headers = {**web.headers, "Content-Type": answer.content_type, **dict(answer.headers)}
        body = answer.body
        if len(body) >= GZIP_BYTES_MIN and gzip_wanted(self._list("Accept-Encoding")):
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        if request is not None and request.path == METRICS:
            self._site.stats.answered(answer.status, time.perf_counter() - started)
        self._send(answer.status, headers, body)

    def _more_follows(self) -> bool:
        """Whether there may be a body: nobody reads it, and it must not be the next request."""
        lengths = self.headers.get_all("Content-Length", ())
        return (
            any(length != "0" for length in lengths)
            or "Transfer-Encoding" in self.headers
            # A line that is no header: what is below it was not looked at.
            or bool(self.headers.defects)
        )

    def _answer(self, web: Web, request: Request | None) -> Answer:
        if web.context is not None and not isinstance(self.connection, SSLSocket):
            return _NO_TLS
        if not web.users.allows(self.headers.get("Authorization", "")):
            return _UNAUTHORIZED
        return _NONSENSE if request is None else self._site.answer(request)

    def _request(self, web: Web) -> Request | None:
        """What is asked; None for nonsense."""
        try:
            url = urlsplit(self.path)
            query = parse_qs(url.query, max_num_fields=PARAMETERS_MAX)
        except ValueError:
            return None
        host, port = self.connection.getsockname()[:2]
        scheme = "https" if isinstance(self.connection, SSLSocket) else "http"
        access = "basic authentication" if web.users else "no authentication"
        served = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}, {access}"
        names = tuple(query.get("name[]", ()))
        return Request(self.command, url.path, names, self._list("Accept"), served)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Vary", "Accept, Accept-Encoding")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _list(self, name: str) -> str:
        """A header that may come in several lines."""
        return ",".join(self.headers.get_all(name, ()))

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is not worth a line."""


class _Bounded:
    """The lines of a stream, of a number of bytes in all."""

    def __init__(self, stream: BufferedIOBase, bytes_max: int) -> None:
        self._stream, self._left = stream, bytes_max

    def readline(self, limit: int) -> bytes:
        """A line, or its first bytes; LineTooLong if there are too many."""
        line = self._stream.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("head")
        return line


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
    # Which of them an address takes is the site's to say.
    setattr(Handler, f"do_{_method}", Handler._serve)
