"""TLS of the web server."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pinchpoint.config.text_file import FileMistake, read_bytes
from pinchpoint.errors import ConfigError
from pinchpoint.expose.web_config import TlsConfig

BYTES_MAX = 1 << 20
"""Of a file of certificates: what an operating system trusts takes some 220 KiB."""


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """What connections are secured by.

    Raises:
        ConfigError: a certificate, key or cipher cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = config.min_version
    context.maximum_version = config.max_version
    if not config.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _demand_file(config.cert_file, "certificate")
    _demand_file(config.key_file, "key")
    if config.client_ca_file is not None:
        _demand_file(config.client_ca_file, "certificate")
    try:
        context.load_cert_chain(config.cert_file, config.key_file, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{config.cert_file}, {config.key_file}: are no certificate and its key without a "
            f"password, in PEM ({error})"
        ) from error
    if config.ciphers:
        try:
            context.set_ciphers(":".join(config.ciphers))
        except ssl.SSLError as error:
            raise ConfigError(f"cipher_suites: OpenSSL has none of them ({error})") from error
    context.verify_mode = config.client_auth
    if config.client_ca_file is not None:
        try:
            context.load_verify_locations(config.client_ca_file)
        except OSError as error:
            raise ConfigError(
                f"{config.client_ca_file}: has no certificates in PEM ({error})"
            ) from error
    elif config.client_auth != ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


def client_allowed(secured: ssl.SSLSocket, allowed_sans: frozenset[str]) -> bool:
    """Whether one of the names in a client's certificate is allowed; without a list all are."""
    return not allowed_sans or not allowed_sans.isdisjoint(_names(secured))


def _names(secured: ssl.SSLSocket) -> Iterator[str]:
    """Alternative names of the client's certificate, addresses as Go writes them."""
    certificate: Mapping[str, Any] = secured.getpeercert() or {}
    for kind, name in certificate.get("subjectAltName", ()):
        yield str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name


def _demand_file(path: Path, what: str) -> None:
    """OpenSSL reads whatever there is, without end, and does not say what it could not read."""
    try:
        read_bytes(path, what, BYTES_MAX)
    except FileMistake as mistake:
        raise ConfigError(str(mistake)) from mistake


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    return ""
