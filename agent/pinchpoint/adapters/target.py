"""One server whose own metrics are read."""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL_SECONDS_MAX = 3.0
"""The detector looks at ten seconds and asks for three readings of a server in them."""


@dataclass(frozen=True)
class AdapterTarget:
    """Where a server's own `/metrics` is and how it is read.

    Attributes:
        kind: one of `adapters.kinds.KINDS`.
        url: `http` or `https`, with the path.
        interval_seconds: from the begin of one scrape to that of the next.
        timeout_seconds: for a whole scrape, the connection included.
        concurrency: requests of one model that the server works on at once, where the operator
            knows it (instances times batch, `--max-num-seqs`).
    """

    kind: str
    url: str
    interval_seconds: float = 1.0
    timeout_seconds: float = 3.0
    concurrency: int | None = None
