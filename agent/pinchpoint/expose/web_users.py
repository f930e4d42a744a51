"""HTTP basic authentication by bcrypt hashes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping

import bcrypt

CACHED_MAX = 100
"""Accepted passwords remembered, as many as in exporter-toolkit."""

BCRYPT_PASSWORD_BYTES = 72
"""What bcrypt looks at; the rest of a longer password is ignored, as by all of its kind."""

_NOBODY = "$2b${cost}$3EioFLpFXwuMnteZxINioOqMMOAM7afYl0/Zt8yR1oPTk1X4C0PMi"


class Users:
    """Who may ask. Nobody at all in `hashes` means everybody.

    bcrypt is slow by design: what was accepted is remembered, as a keyed digest, and the rest is
    hashed one at a time, so that guessing costs one core at most and never delays those who are
    known. An unknown user takes as long as a known one.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = dict(hashes)
        cost = max((hashed.split("$")[2] for hashed in hashes.values()), default="10")
        self._nobody = _NOBODY.format(cost=cost)
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._accepted: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def allows(self, authorization: str) -> bool:
        """Whether an Authorization header, empty if there is none, is that of a user."""
        if not self._hashes:
            return True
        given = _credentials(authorization)
        return given is not None and self._matches(*given)

    def _matches(self, user: str, password: bytes) -> bool:
        hashed = self._hashes.get(user, self._nobody)
        name = hashlib.sha256(user.encode()).digest()
        digest = hmac.digest(self._key, name + password, "sha256")
        if digest in self._accepted:
            return True
        with self._lock:
            accepted = _same(password, hashed) and user in self._hashes
        if accepted:
            if len(self._accepted) >= CACHED_MAX:
                self._accepted.clear()
            self._accepted.add(digest)
        return accepted


def _same(password: bytes, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password[:BCRYPT_PASSWORD_BYTES], hashed.encode())
    except ValueError:  # bytes that no bcrypt password may have
        return False


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, separator, password = base64.b64decode(encoded, validate=True).partition(b":")
        return (user.decode(), password) if separator else None
    except (binascii.Error, ValueError):
        return None
