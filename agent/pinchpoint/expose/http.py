"""The agent's HTTP endpoints. Every answer is rendered from the published snapshot.

/metrics          Prometheus text or OpenMetrics, by the Accept header
/api/v1/verdict   the verdict with its evidence, as JSON
/-/healthy        200 while the process answers
/-/ready          200 once the agent has looked for rings, else 503
/                 where to find the above
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pinchpoint import __version__
from pinchpoint.errors import AddressError
from pinchpoint.expose.api import verdict_json
from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.state import PublishedState

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"

GZIP_LEVEL = 1
"""Level 9, the usual default, takes 15 times as long for a few percent (INPROCESS 5)."""

_LANDING = f"""<!doctype html><html lang="en"><head><title>Pinchpoint</title></head><body>
<h1>Pinchpoint {__version__}</h1><ul>
<li><a href="metrics">Metrics</a></li>
<li><a href="api/v1/verdict">Verdict</a></li>
<li><a href="-/healthy">Healthy</a>, <a href="-/ready">ready</a></li>
</ul></body></html>
"""

Answer = tuple[int, str, bytes]


class _Handler(BaseHTTPRequestHandler):
    server_version = f"pinchpoint/{__version__}"
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    state: PublishedState
    registry: CollectorRegistry

    def do_GET(self) -> None:
        status, content_type, body = self._answer(urlsplit(self.path).path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if len(body) > 1024 and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, GZIP_LEVEL)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, path: str) -> Answer:
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            return 200, content_type, encode(self.registry)
        if path == "/api/v1/verdict":
            snapshot = self.state.snapshot
            if snapshot is None:
                return 503, JSON, b'{"error": "no verdict yet, try again in a second"}\n'
            return 200, JSON, json.dumps(verdict_json(snapshot), indent=1).encode() + b"\n"
        if path == "/-/healthy":
            return 200, TEXT, b"healthy\n"
        if path == "/-/ready":
            ready = self.state.ready
            return (200, TEXT, b"ready\n") if ready else (503, TEXT, b"starting\n")
        if path == "/":
            return 200, HTML, _LANDING.encode()
        return 404, TEXT, b"not found; see / for what there is\n"

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is not worth a line."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A second agent on the same port must fail, not share it.
    allow_reuse_port = False

    def server_bind(self) -> None:
        """Bind without looking up our own name, which takes as long as DNS is broken."""
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), port

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up in mid-answer is its own business."""


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class HttpServer:
    """A running server; `address` is `host:port` as really bound."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        host, port = server.server_address[:2]
        text = host.decode() if isinstance(host, bytes | bytearray) else host
        self.address = f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and wait for the accepting thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT`, `[V6]:PORT` or `:PORT` as host and port.

    Raises:
        AddressError: it is none of these.
    """
    host, separator, port = address.rpartition(":")
    number = port.isascii() and port.isdigit() and len(port) <= 5
    if not separator or not number or int(port) > 65535:
        raise AddressError(f"'{address}' is no listen address: write HOST:PORT, e.g. 0.0.0.0:10061")
    return host.strip("[]") or "0.0.0.0", int(port)


def serve(address: str, state: PublishedState) -> HttpServer:
    """Serve the published state.

    Raises:
        AddressError: the address is malformed, taken, or not this machine's.
    """
    host, port = split_address(address)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(state))
    handler = type("Handler", (_Handler,), {"state": state, "registry": registry})
    kind = _ServerV6 if ":" in host else _Server
    try:
        return HttpServer(kind((host, port), handler))
    except (OSError, ValueError) as error:  # ValueError: no host name at all
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressError(
            f"cannot listen on {address} ({reason}): "
            "choose another port with --web.listen-address HOST:PORT"
        ) from error
