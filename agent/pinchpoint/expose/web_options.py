"""What the web server is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WebOptions:
    """The defaults serve plain HTTP to everybody.

    Attributes:
        config_file: TLS, users and headers in exporter-toolkit's format.
        enable_lifecycle: whether `/-/reload` does anything.
        native_histograms: offer protobuf, the only format that carries them.
    """

    config_file: Path | None = None
    enable_lifecycle: bool = False
    native_histograms: bool = False
