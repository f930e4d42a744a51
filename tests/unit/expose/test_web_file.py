from __future__ import annotations

from pathlib import Path

import pytest

from pinchpoint.errors import ConfigError
from pinchpoint.expose.web_file import WebFile

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
    with pytest.raises(ConfigError, match="nowhere: cannot be read"):
        WebFile(path, said.append)
