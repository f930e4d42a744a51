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

    config: WebConfig = field(default_factory=WebConfig)
    context: ssl.SSLContext | None = None
    users: Users = field(default_factory=lambda: Users({}))

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent with every answer."""
        return self.config.headers

    @property
    def client_allowed_sans(self) -> frozenset[str]:
        """Alternative names of which a client must have one; none for no such demand."""
        return self.config.tls.client_allowed_sans if self.config.tls else frozenset()


class WebFile:
    """The configuration at a path, looked at for every connection and request.

    A changed file that is wrong changes nothing and is said once; certificates may be replaced at
    any time. What is demanded of clients (TLS, certificates, their authority and names, passwords)
    does not end without a restart: a file that is being written may be empty for a moment, or cut.

    Args:
        path: None for no security.
        say: takes one line for the operator.

    Raises:
        ConfigError: the file or one that it names cannot be used.

    Attributes:
        latest: what held when the file was last looked at; takes no time.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._lock = threading.Lock()
        self._seen: dict[Path, _Identity] = {}
        self.latest = Web()
        if path is not None:
            self.latest = self._load(path)

    def current(self) -> Web:
        """What holds now. While another thread reads the file, what held before."""
        if self._path is not None and self._lock.acquire(blocking=False):
            try:
                if self._changed():
                    self._reload(self._path)
            finally:
                self._lock.release()
        return self.latest

    def _reload(self, path: Path) -> None:
        try:
            self.latest = self._load(path)
        except ConfigError as error:
            self._stays(str(error))
        except Exception as error:
            self._stays(f"{path}: {type(error).__name__}: {error}; please report this")

    def _stays(self, reason: str) -> None:
        self._say(f"{reason}\nthe web configuration stays as it was")

    def _changed(self) -> bool:
        return any(_identity(file) != seen for file, seen in self._seen.items())

    def _load(self, path: Path) -> Web:
        """Every file is looked at before it is read, so that no change is missed."""
        self._seen = {file: _identity(file) for file in (path, *self._seen)}
        config = read_web_config(path)
        named = {file: _identity(file) for file in _named(config)}
        self._seen = {path: self._seen[path], **named}
        held, wanted = _demands(self.latest.config), _demands(config)
        less = [key for key, demand in held.items() if wanted[key] < demand]
        if less:
            raise ConfigError(
                f"{path}: {', '.join(less)} would demand less of clients than before: "
                "restart the agent for that"
            )
        context = server_context(config.tls) if config.tls else None
        return Web(config, context, Users(config.users))


def _demands(config: WebConfig) -> Mapping[str, int]:
    """How much each key demands of clients."""
    tls = config.tls
    return {
        "tls_server_config": tls is not None,
        "client_auth_type": tls.client_auth if tls else ssl.CERT_NONE,
        # Without it every authority that the system trusts is trusted.
        "client_ca_file": tls is not None and tls.client_ca_file is not None,
        "client_allowed_sans": tls is not None and bool(tls.client_allowed_sans),
        "basic_auth_users": bool(config.users),
    }


def _named(config: WebConfig) -> list[Path]:
    if config.tls is None:
        return []
    files = (config.tls.cert_file, config.tls.key_file, config.tls.client_ca_file)
    return [file for file in files if file is not None]


def _identity(file: Path) -> _Identity:
    """What differs when a file has been changed or replaced; empty while there is none."""
    try:
        status = file.stat()
    except (OSError, ValueError):  # ValueError: no path at all
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
