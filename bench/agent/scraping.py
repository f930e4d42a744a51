"""Scrapes as Prometheus makes them."""

from __future__ import annotations

import http.client
import time
import zlib
from typing import NamedTuple

TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
_TIMEOUT_SECONDS = 30.0


class Scrape(NamedTuple):
    """An answer, and how long it took from the connection to its last byte."""

    body: bytes
    sent_bytes: int
    wall_ms: float
    content_type: str

    @property
    def text(self) -> str:
        """The body of a format that is text."""
        return self.body.decode()

    @property
    def series(self) -> int:
        """Lines of the text formats that are no comment."""
        return sum(not line.startswith("#") for line in self.text.splitlines())


def get(address: str, accept: str, *, gzip: bool = False) -> Scrape:
    """One scrape.

    Raises:
        RuntimeError: the answer is not 200.
        OSError: there is no answer.
    """
    headers = {"Accept": accept, "Accept-Encoding": "gzip" if gzip else "identity"}
    begin = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        sent = answer.read()
    finally:
        connection.close()
    wall_ms = (time.perf_counter() - begin) * 1e3
    if answer.status != 200:
        raise RuntimeError(f"/metrics answered {answer.status}: {sent[:200]!r}")
    packed = answer.getheader("Content-Encoding") == "gzip"
    body = zlib.decompress(sent, wbits=31) if packed else sent
    return Scrape(body, len(sent), wall_ms, answer.getheader("Content-Type", ""))


def value(text: str, name: str) -> float:
    """The sum of the series of a name in an exposition."""
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
