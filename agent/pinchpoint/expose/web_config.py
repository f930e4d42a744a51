"""The file of `--web.config.file`, in exporter-toolkit's format: who may connect, and how.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What Python
cannot do is an error, never a weaker setting: inline certificates, `rate_limit`, and client
certificates that are required and not verified. `http2` and `curve_preferences` are checked and
otherwise without effect: HTTP/1.1 is spoken, with OpenSSL's own curves.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pinchpoint.config.sentences import clean
from pinchpoint.config.text_file import FileMistake, read_text
from pinchpoint.config.yaml_text import parse_yaml
from pinchpoint.errors import ConfigError
from pinchpoint.expose.web_ciphers import OPENSSL_NAMES, TLS_1_3
from pinchpoint.expose.web_section import Section

CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    # Go asks for a certificate here and does not look at it.
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CURVES = ("CurveP256", "CurveP384", "CurveP521", "X25519", "X25519MLKEM768")
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Headers that may be set, and their values where only some are allowed."""

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True)
class TlsConfig:
    """`tls_server_config`."""

    cert_file: Path
    key_file: Path
    client_auth: ssl.VerifyMode
    client_ca_file: Path | None
    client_allowed_sans: frozenset[str]
    min_version: ssl.TLSVersion
    max_version: ssl.TLSVersion
    ciphers: tuple[str, ...]
    """OpenSSL's names, of TLS 1.2 and older; none for the defaults."""
    prefer_server_ciphers: bool


@dataclass(frozen=True)
class WebConfig:
    """The whole file."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    """bcrypt hashes by name."""


def read_web_config(path: Path) -> WebConfig:
    """Read and check the file; certificates are not looked at.

    Raises:
        ConfigError: the file cannot be read or has mistakes, one line for each.
    """
    mistakes: list[tuple[int, str]] = []

    def report(line: int, sentence: str) -> None:
        mistakes.append((line, sentence))

    try:
        text = read_text(path)
    except FileMistake as mistake:
        raise ConfigError(str(mistake)) from mistake
    root = Section("", parse_yaml(text, report), report)
    config = WebConfig(
        _tls(root.section("tls_server_config"), path.parent),
        _headers(root.section("http_server_config")),
        _users(root.section("basic_auth_users")),
    )
    root.finish()
    if mistakes:
        raise ConfigError("\n".join(f"{path}:{line}: {told}" for line, told in sorted(mistakes)))
    return config


def _tls(section: Section, directory: Path) -> TlsConfig | None:
    cert_file, key_file = section.text("cert_file"), section.text("key_file")
    client_ca_file = section.text("client_ca_file")
    client_auth = section.choice("client_auth_type", CLIENT_AUTH, "NoClientCert")
    sans = frozenset(section.texts("client_allowed_sans"))
    config = TlsConfig(
        directory / cert_file,
        directory / key_file,
        client_auth,
        directory / client_ca_file if client_ca_file else None,
        sans,
        section.choice("min_version", VERSIONS, "TLS12"),
        section.choice("max_version", VERSIONS, "TLS13"),
        _ciphers(section),
        section.truth("prefer_server_cipher_suites", True),
    )
    for curve in section.texts("curve_preferences"):
        if curve not in CURVES:
            section.wrong(
                "curve_preferences", f'has "{clean(curve)}": write of {", ".join(CURVES)}'
            )
    if not section:
        return None
    for key, value in (("cert_file", cert_file), ("key_file", key_file)):
        if not value:
            section.wrong(key, f"is missing: write {key}: FILE")
    if client_ca_file and client_auth == ssl.CERT_NONE:
        section.wrong("client_ca_file", "needs client_auth_type: RequireAndVerifyClientCert")
    if sans and client_auth != ssl.CERT_REQUIRED:
        section.wrong("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    if config.min_version > config.max_version:
        section.wrong("min_version", "is later than max_version")
    return config


def _ciphers(section: Section) -> tuple[str, ...]:
    """TLS 1.3 has its own ciphers, which neither Go nor Python let be chosen."""
    names = section.texts("cipher_suites")
    for name in names:
        if name not in OPENSSL_NAMES and name not in TLS_1_3:
            section.wrong("cipher_suites", f'has "{clean(name)}": write names of Go\'s crypto/tls')
    return tuple(OPENSSL_NAMES[name] for name in names if name in OPENSSL_NAMES)


def _headers(section: Section) -> Mapping[str, str]:
    section.truth("http2", True)
    headers = section.section("headers")
    values = {name: headers.text(name) for name in HEADERS}
    for name, value in values.items():
        allowed = HEADERS[name]
        if value and allowed and value not in allowed:
            headers.wrong(name, f'is "{clean(value)}": write {" or ".join(allowed)}')
        if not value.isascii():
            headers.wrong(name, "has characters that no header may have")
    return {name: value for name, value in values.items() if value}


def _users(section: Section) -> Mapping[str, str]:
    users = {name: section.text(name) for name in section.keys}
    for name, hashed in users.items():
        if not _BCRYPT.fullmatch(hashed):
            section.wrong(name, "is no bcrypt hash: make one with htpasswd -nBC 10 NAME")
    return users
