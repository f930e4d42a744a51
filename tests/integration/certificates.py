"""Certificates for a test, by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.integration.processes import needed

OPENSSL_SECONDS = 60
DAYS = "2"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates.

    Args:
        directory: for all files.
        name: of the authority and its files.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._own = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
        _openssl("req", "-x509", *KEY, "-days", DAYS, "-subj", f"/CN={name}", *_files(self._own))

    @property
    def cert(self) -> Path:
        """What clients or servers trust."""
        return self._own.cert

    def sign(self, name: str, *alternatives: str) -> Certificate:
        """A certificate for these names (`DNS:`, `IP:`, `URI:`, `email:`)."""
        signed = Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        names = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        by = ("-CA", str(self._own.cert), "-CAkey", str(self._own.key), "-days", DAYS)
        _openssl("req", "-x509", *KEY, *by, "-subj", f"/CN={name}", *names, *_files(signed))
        return signed


def _files(certificate: Certificate) -> tuple[str, ...]:
    return "-out", str(certificate.cert), "-keyout", str(certificate.key)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(
        [needed("openssl"), *arguments],
        capture_output=True,
        text=True,
        timeout=OPENSSL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
