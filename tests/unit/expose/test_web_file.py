from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinchpoint.errors import ConfigError
from pinchpoint.expose import web_file
from pinchpoint.expose.web_config import WebConfig
from pinchpoint.expose.web_file import WebFile
from pinchpoint.expose.web_tls import BYTES_MAX

HASH = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze"
HEADERS = "http_server_config: {{headers: {{X-XSS-Protection: '{}'}}}}\n"
USERS = f"basic_auth_users: {{alice: {HASH}}}\n"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "web.yml"
    path.write_text(HEADERS.format("1"))
    return path


def test_without_a_file_there_is_no_security(said: list[str]) -> None:
    """Plain HTTP for everybody."""
    web = WebFile(None, said.append).current()
    assert (web.context, web.headers, bool(web.users)) == (None, {}, False)


def test_a_file_that_stays_is_read_once(path: Path, said: list[str]) -> None:
    """The cache of accepted passwords lives as long."""
    file = WebFile(path, said.append)
    assert file.current() is file.current()


def test_a_file_that_changes_is_read_again(path: Path, said: list[str]) -> None:
    """Written in place, or replaced as a mounted secret is."""
    file = WebFile(path, said.append)
    path.write_text(HEADERS.format("22"))
    assert file.current().headers == {"X-XSS-Protection": "22"}
    other = path.with_name("other")
    other.write_text(HEADERS.format("33"))
    other.rename(path)
    assert file.current().headers == {"X-XSS-Protection": "33"}
    assert said == []


def test_a_file_that_vanishes_is_said_once_and_changes_nothing(path: Path, said: list[str]) -> None:
    """Until it is there again."""
    file = WebFile(path, said.append)
    text = path.read_text()
    path.unlink()
    for _ in range(3):
        assert file.current().headers == {"X-XSS-Protection": "1"}
    (told,) = said
    assert "cannot be read" in told
    path.write_text(text.replace("1", "2"))
    assert file.current().headers == {"X-XSS-Protection": "2"}


def test_passwords_may_be_added_but_not_be_dropped(path: Path, said: list[str]) -> None:
    """Not while the agent runs: an empty file may be one that is being written."""
    file = WebFile(path, said.append)
    path.write_text(USERS)
    assert file.current().users
    path.write_text("")
    assert file.current().users
    (told,) = said
    assert "restart the agent" in told


def test_a_file_that_is_wrong_at_the_start_is_an_error(path: Path, said: list[str]) -> None:
    """There is nothing yet that could stay as it was."""
    path.write_text("tls_server_config: {cert_file: nowhere, key_file: nowhere}")
    with pytest.raises(ConfigError, match="nowhere cannot be read"):
        WebFile(path, said.append)


def test_a_defect_of_ours_is_said_once_and_changes_nothing(
    path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at any other reload."""

    def broken(_path: Path) -> WebConfig:
        raise RuntimeError("no")

    file = WebFile(path, said.append)
    monkeypatch.setattr(web_file, "read_web_config", broken)
    path.write_text(HEADERS.format("22"))
    for _ in range(3):
        assert file.current().headers == {"X-XSS-Protection": "1"}
    (told,) = said
    assert "RuntimeError: no; please report this" in told


@pytest.mark.parametrize("key", ["cert_file", "key_file", "client_ca_file"])
@pytest.mark.parametrize(
    ("what", "sentence"), [("fifo", "is not a file"), ("large", "is larger than 1024 KiB")]
)
def test_a_certificate_that_has_no_end_is_an_error(
    path: Path, said: list[str], key: str, what: str, sentence: str
) -> None:
    """It is not waited for, nor taken into memory."""
    path.with_name("file").touch()
    if what == "fifo":
        os.mkfifo(path.with_name(what))
    else:
        path.with_name(what).write_bytes(b"#" * (BYTES_MAX + 1))
    files = dict.fromkeys(("cert_file", "key_file", "client_ca_file"), "file") | {key: what}
    lines = (f"  {name}: {file}\n" for name, file in files.items())
    required = "  client_auth_type: RequireAndVerifyClientCert\n"
    path.write_text("tls_server_config:\n" + required + "".join(lines))
    with pytest.raises(ConfigError, match=f"{what} {sentence}"):
        WebFile(path, said.append)
