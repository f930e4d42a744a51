"""The web configuration in force: read again whenever the file, or one it names, changes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pinchpoint.errors import ConfigError
from pinchpoint.expose.web_config import WebConfig, read_web_config
from pinchpoint.expose.web_tls import server_context
from pinchpoint.expose.web_users import Users

_Identity = tuple[int, ...]


@dataclass(frozen=True)
class Web:
    """What holds for a connection and its requests. The default is plain HTTP for everybody."""

    context: ssl.SSLContext | None = None
    client_allowed_sans: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Users = field(default_factory=lambda: Users({}))


class WebFile:
    """The configuration at a path, looked at for every connection and request.

    A changed file that is wrong changes nothing and is said once; certificates may be replaced at
    any time. Neither TLS nor passwords end without a restart: a file that is being written may
    be empty for a moment.

    Args:
        path: None for no security.
        say: takes one line for the operator.

    Raises:
        ConfigError: the file or one that it names cannot be used.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._lock = threading.Lock()
        self._seen: dict[Path, _Identity] = {}
        self._web = Web()
        if path is not None:
            self._web = self._load(path)

    def current(self) -> Web:
        """What holds now."""
        with self._lock:
            if self._path is not None and self._changed():
                try:
                    self._web = self._load(self._path)
                except ConfigError as error:
                    self._say(f"{error}\nthe web configuration stays as it was")
            return self._web

    def _changed(self) -> bool:
        return any(_identity(file) != seen for file, seen in self._seen.items())

    def _load(self, path: Path) -> Web:
        """Every file is looked at before it is read, so that no change is missed."""
        self._seen = {file: _identity(file) for file in (path, *self._seen)}
        config = read_web_config(path)
        named = {file: _identity(file) for file in _named(config)}
        self._seen = {path: self._seen[path], **named}
        web = Web(
            server_context(config.tls) if config.tls else None,
            config.tls.client_allowed_sans if config.tls else frozenset(),
            config.headers,
            Users(config.users),
        )
        if (self._web.context and not web.context) or (self._web.users and not web.users):
            raise ConfigError(
                f"{path}: TLS or basic_auth_users are gone: restart the agent to do without them"
            )
        return web


def _named(config: WebConfig) -> list[Path]:
    if config.tls is None:
        return []
    files = (config.tls.cert_file, config.tls.key_file, config.tls.client_ca_file)
    return [file for file in files if file is not None]


def _identity(file: Path) -> _Identity:
    """What differs when a file has been changed or replaced; empty while there is none."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
