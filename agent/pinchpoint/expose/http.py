"""The agent's HTTP server, from its listen address on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pinchpoint.config.kinds import Address
from pinchpoint.config.sentences import clean
from pinchpoint.errors import AddressError
from pinchpoint.expose.http_server import Server
from pinchpoint.expose.state import PublishedState
from pinchpoint.expose.web_file import WebFile
from pinchpoint.expose.web_options import WebOptions
from pinchpoint.expose.web_site import Site

DEFAULTS = WebOptions()

POLL_SECONDS = 0.2
"""How often connections are looked at, and how long closing takes at most."""


class HttpServer:
    """A running server; `address` is `host:port` as really bound, `url` has the scheme too."""

    def __init__(self, server: Server, web: WebFile) -> None:
        self._server = server
        host, port = server.server_address[:2]
        text = host.decode() if isinstance(host, bytes | bytearray) else host
        self.address = f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
        scheme = "https" if web.latest.context else "http"
        self.url = f"{scheme}://{self.address}"
        self._thread = threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": POLL_SECONDS},
            name="http",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, wait for the accepting thread, and end every connection."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.connections.cut_all()


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT`, `[V6]:PORT` or `:PORT` as host and port.

    Raises:
        AddressError: it is none of these.
    """
    try:
        host, _, port = Address().parse(address).rpartition(":")
    except ValueError as error:
        raise AddressError(
            f'"{clean(address)}" is no listen address: write {Address.wanted}'
        ) from error
    return host.strip("[]") or "0.0.0.0", int(port)


def serve(
    address: str,
    state: PublishedState,
    options: WebOptions = DEFAULTS,
    *,
    reload: Callable[[], str | None] = lambda: None,
    say: Callable[[str], None] = lambda _line: None,
) -> HttpServer:
    """Serve the published state.

    Args:
        address: where to listen.
        state: what to serve.
        options: how, and to whom.
        reload: what `/-/reload` does, called in a thread of the server, never twice at a time;
            a sentence if it failed.
        say: takes one line for the operator.

    Raises:
        AddressError: the address is malformed, taken, or not this machine's.
        ConfigError: the web configuration, or a certificate, cannot be used.
    """
    host, port = split_address(address)
    web = WebFile(options.config_file, say)
    try:
        server = Server((host, port), Site(state, options, reload, say), web)
    except (OSError, ValueError) as error:  # ValueError: no host name at all
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressError(
            f"cannot listen on {clean(address)} ({reason}): "
            "choose another port with --web.listen-address HOST:PORT"
        ) from error
    return HttpServer(server, web)
