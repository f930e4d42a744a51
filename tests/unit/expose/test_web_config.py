from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinchpoint.errors import ConfigError
from pinchpoint.expose.web_config import WebConfig, read_web_config

HASH = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze"

EVERYTHING = f"""\
tls_server_config:
  cert_file: server.crt
  key_file: /etc/keys/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, 10.0.0.7]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: true
  headers:
    X-Frame-Options: deny
    Strict-Transport-Security: max-age=31536000
    X-XSS-Protection:
basic_auth_users:
  alice: {HASH}
"""


def read(tmp_path: Path, text: str) -> WebConfig:
    path = tmp_path / "web.yml"
    path.write_text(text)
    return read_web_config(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert caught.value.exit_code == 6
    return [line.removeprefix(f"{tmp_path}/web.yml:") for line in str(caught.value).splitlines()]


def test_everything_in_the_file_is_understood(tmp_path: Path) -> None:
    """Relative names of files start at the file that has them."""
    config = read(tmp_path, EVERYTHING)
    tls = config.tls
    assert tls is not None
    assert tls.cert_file == tmp_path / "server.crt"
    assert tls.key_file == Path("/etc/keys/server.key")
    assert tls.client_ca_file == tmp_path / "ca.crt"
    assert tls.client_auth == ssl.CERT_REQUIRED
    assert tls.client_allowed_sans == {"prometheus.example", "10.0.0.7"}
    assert (tls.min_version, tls.max_version) == (ssl.TLSVersion.TLSv1_3,) * 2
    assert tls.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
    assert tls.prefer_server_ciphers is False
    assert config.headers == {
        "X-Frame-Options": "deny",
        "Strict-Transport-Security": "max-age=31536000",
    }
    assert config.users == {"alice": HASH}


def test_the_defaults_are_those_of_exporter_toolkit(tmp_path: Path) -> None:
    """TLS 1.2 and later, no client certificates, no users, no headers."""
    config = read(tmp_path, "tls_server_config: {cert_file: a, key_file: b}")
    tls = config.tls
    assert tls is not None
    assert (tls.min_version, tls.max_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert tls.client_auth == ssl.CERT_NONE
    assert tls.prefer_server_ciphers is True
    assert (config.headers, config.users) == ({}, {})


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "tls_server_config:\n", "basic_auth_users: {}"]
)
def test_an_empty_file_is_no_security(tmp_path: Path, text: str) -> None:
    """As in exporter-toolkit."""
    assert read(tmp_path, text) == WebConfig()


def test_all_mistakes_are_told_together_with_line_and_key(tmp_path: Path) -> None:
    """In the order of the file."""
    text = """\
tls_server_config:
  key_file: b
  client_ca_file: c
  client_allowed_sans: [d]
  min_version: TLS14
  cipher_suites: [AES]
  curve_preferences: [X448]
  prefer_server_cipher_suites: perhaps
http_server_config:
  http2: 2
  headers: {X-Frame-Options: none, Server: mine}
basic_auth_users:
  alice: password
rate_limit: {interval: 1s}
"""
    found = mistakes(tmp_path, text)
    expected = [
        ("2:", "tls_server_config.cert_file is missing"),
        ("3:", "tls_server_config.client_ca_file needs client_auth_type"),
        ("4:", "tls_server_config.client_allowed_sans needs client_auth_type"),
        ("5:", 'tls_server_config.min_version is "TLS14": write one of TLS10'),
        ("6:", 'tls_server_config.cipher_suites has "AES"'),
        ("7:", 'tls_server_config.curve_preferences has "X448"'),
        ("8:", 'tls_server_config.prefer_server_cipher_suites is "perhaps"'),
        ("10:", 'http_server_config.http2 is "2"'),
        ("11:", 'http_server_config.headers.X-Frame-Options is "none": write deny or sameorigin'),
        ("11:", "http_server_config.headers.Server does not exist"),
        ("13:", "basic_auth_users.alice is no bcrypt hash"),
        ("14:", "rate_limit does not exist"),
    ]
    assert len(found) == len(expected)
    for line, sentence in expected:
        assert any(told.startswith(f"{line} {sentence}") for told in found), (line, sentence)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", 'the file is "a"'),
        ("basic_auth_users: [alice]", "basic_auth_users is a list"),
        ("basic_auth_users: {alice: [x]}", "basic_auth_users.alice is a list"),
        ("tls_server_config: {cert_file: {a: b}, key_file: b}", "cert_file is a mapping"),
        ("tls_server_config: {cipher_suites: TLS_AES_128_GCM_SHA256}", "is no list of texts"),
        ("a: [", "this is not YAML"),
        (f"basic_auth_users: {{a: {HASH}, a: {HASH}}}", "a is there twice"),
        ("tls_server_config: {client_auth_type: RequireAnyClientCert}", "write one of NoClient"),
        (
            "tls_server_config: {min_version: TLS13, max_version: TLS12}",
            "is later than max_version",
        ),
        (
            'http_server_config: {headers: {X-XSS-Protection: "a\\nSet-Cookie: b"}}',
            "cannot be printed",
        ),
        ("http_server_config: {headers: {X-XSS-Protection: é}}", "no header may"),
        ("tls_server_config: {cert: inline}", "tls_server_config.cert does not exist"),
        ('tls_server_config: {cert_file: "a\\0b", key_file: c}', "cert_file has characters that"),
        ('tls_server_config: {cert_file: a, key_file: "\\uD800"}', "key_file has characters that"),
        ('tls_server_config: {client_allowed_sans: ["\\e[2J"]}', "client_allowed_sans has charac"),
        ('basic_auth_users: {"a\\nb": x}', "basic_auth_users.a\\nb is no bcrypt hash"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    """What would be less secure than it looks is one too."""
    assert any(told in line for line in mistakes(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "tls_server_config: {VALUE: VALUE}",
        "tls_server_config: {min_version: VALUE}",
        "tls_server_config: {prefer_server_cipher_suites: VALUE}",
        "tls_server_config: {cipher_suites: [VALUE]}",
        "tls_server_config: {curve_preferences: [VALUE]}",
        "http_server_config: {headers: {X-Frame-Options: VALUE}}",
        "basic_auth_users: {VALUE: x}",
    ],
)
def test_what_was_written_is_told_fit_for_a_terminal(tmp_path: Path, text: str) -> None:
    """No control characters, and not more than can be read."""
    for value in (r'"\e[2J\a\n\x9b"', "x" * 1000):
        for told in mistakes(tmp_path, text.replace("VALUE", value)):
            assert told.isprintable()
            assert "x" * 100 not in told


def test_a_file_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigError, match=r"web\.yml cannot be read"):
        read_web_config(tmp_path / "web.yml")


def test_a_hash_is_never_repeated(tmp_path: Path) -> None:
    """What looks like a password may be one."""
    (told,) = mistakes(tmp_path, "basic_auth_users: {alice: s3cret}")
    assert "s3cret" not in told


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.sampled_from(EVERYTHING.split("\n")).map(lambda line: EVERYTHING + line))
def test_any_text_is_understood_or_refused(tmp_path: Path, text: str) -> None:
    """By the one error, never by another."""
    path = tmp_path / "web.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        assert isinstance(read_web_config(path), WebConfig)
