"""The accepting side: a thread for each connection, a bounded number of them, TLS in the thread."""

from __future__ import annotations

import contextlib
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from pinchpoint.expose.http_connections import Connections
from pinchpoint.expose.http_handler import ONLY_HTTPS, Handler
from pinchpoint.expose.web_file import WebFile
from pinchpoint.expose.web_site import Site
from pinchpoint.expose.web_tls import client_allowed

_HANDSHAKE = b"\x16"
"""The first byte of every TLS connection."""

_REQUEST_BYTES = 65536


def _refusal(status: str, sentence: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(sentence), sentence)


_BUSY = _refusal("503 Service Unavailable", b"too many connections are open: try again\n")
_NO_TLS = _refusal("400 Bad Request", ONLY_HTTPS)


class Server(ThreadingHTTPServer):
    """Accepts connections for one site.

    Neither a client nor a file blocks the accepting thread: it only fills the table of connections,
    and cuts those whose time has come.
    """

    daemon_threads = True
    # A second agent on the same port must fail, not share it.
    allow_reuse_port = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], site: Site, web: WebFile) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.connections = Connections()
        self._site, self._web = site, web
        super().__init__(address, BaseHTTPRequestHandler)

    def server_bind(self) -> None:
        """Bind without looking up our own name, which takes as long as DNS is broken."""
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), port

    def service_actions(self) -> None:
        """Called at each turn of the accepting loop."""
        self.connections.cut_overdue()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Start the thread of a connection, or refuse it."""
        if self.connections.admit(request):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread is to be had; the caller closes the socket
                self.connections.forget(request)
                raise
            return
        with contextlib.suppress(OSError):
            if self._web.latest.context is None:
                request.send(_BUSY)
        self.shutdown_request(request)

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Talk to a client, in its own thread."""
        connection = self.connections.of(request)
        web = self._web.current()
        try:
            if web.context is None:
                Handler(request, client_address, self, connection, self._site, self._web)
                return
            if request.recv(1, socket.MSG_PEEK) != _HANDSHAKE:
                # Read it: what is closed with something unread is reset, and the answer lost.
                if request.recv(_REQUEST_BYTES):
                    request.send(_NO_TLS)
                return
            secured = web.context.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
            with secured:
                connection.socket = secured
                secured.do_handshake()
                if client_allowed(secured, web.client_allowed_sans):
                    Handler(secured, client_address, self, connection, self._site, self._web)
        finally:
            self.connections.forget(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up in mid-answer, or cannot agree on TLS, is its own business."""
