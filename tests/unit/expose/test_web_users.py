from __future__ import annotations

import base64

import bcrypt
import pytest

from pinchpoint.expose.web_users import CACHED_MAX, Users


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


def basic(user: str, password: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture
def users() -> Users:
    return Users({"alice": hashed(b"secret"), "zoë": hashed("geheim:ß".encode())})


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that were compared with; the real comparison is made."""
    seen: list[bytes] = []
    real = bcrypt.checkpw

    def checkpw(password: bytes, hashed_password: bytes) -> bool:
        seen.append(hashed_password)
        return real(password, hashed_password)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return seen


def test_without_users_everybody_may_ask() -> None:
    """Whatever they say."""
    assert Users({}).allows("")
    assert Users({}).allows(basic("alice", "secret"))
    assert not Users({})


@pytest.mark.parametrize(
    "authorization",
    [basic("alice", "secret"), basic("alice", "secret", "bASIC"), basic("zoë", "geheim:ß")],
)
def test_a_user_with_the_right_password_may_ask(users: Users, authorization: str) -> None:
    """A colon may be in the password, and any character."""
    assert users.allows(authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWxpY2U=",
        "Basic /////w==",
        "Bearer YWxpY2U6c2VjcmV0",
        basic("alice", "Secret"),
        basic("alice", ""),
        basic("alice", "secret\0"),
        basic("alice", "x" * 5000),
        basic("bob", "secret"),
        basic("", "secret"),
        basic("zoë", "secret"),
    ],
)
def test_everybody_else_may_not(users: Users, authorization: str) -> None:
    """No header, nonsense, another scheme, a wrong password, an unknown user."""
    assert not users.allows(authorization)


def test_a_right_password_is_hashed_once(users: Users, compared: list[bytes]) -> None:
    """A scrape must not cost 70 ms each time."""
    for _ in range(3):
        assert users.allows(basic("alice", "secret"))
    assert len(compared) == 1


def test_a_wrong_password_is_never_remembered_as_right(users: Users, compared: list[bytes]) -> None:
    """Nor does it matter to the one that is."""
    assert users.allows(basic("alice", "secret"))
    for _ in range(2):
        assert not users.allows(basic("alice", "wrong"))
        assert not users.allows(basic("zoë", "secret"))
    assert users.allows(basic("alice", "secret"))
    assert len(compared) == 5


def test_an_unknown_user_costs_what_a_known_one_does(users: Users, compared: list[bytes]) -> None:
    """A hash of the same cost is compared with, so that time does not tell names."""
    assert not users.allows(basic("bob", "secret"))
    (used,) = compared
    assert used.startswith(b"$2b$04$")
    assert len(used) == 60


def test_more_of_a_password_than_bcrypt_sees_is_ignored() -> None:
    """As by every bcrypt; the library would raise."""
    users = Users({"alice": hashed(b"p" * 72)})
    assert users.allows(basic("alice", "p" * 90))


def test_what_is_remembered_is_bounded() -> None:
    """Many spellings of one long password are the most that a user can make of it."""
    users = Users({"alice": hashed(b"p" * 72)})
    for number in range(CACHED_MAX + 5):
        assert users.allows(basic("alice", "p" * 72 + str(number)))
    assert len(users._accepted) <= CACHED_MAX
