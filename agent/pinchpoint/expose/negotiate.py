"""Which format and encoding a client is given, by what it says that it accepts (RFC 9110, 12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")
DEFAULT_ESCAPING = "underscores"


@dataclass(frozen=True)
class Format:
    """How metrics are written, what that is called, and how names are escaped."""

    kind: Literal["text", "openmetrics", "protobuf"]
    content_type: str
    escaping: str = DEFAULT_ESCAPING


TEXT = Format("text", "text/plain; version=0.0.4; charset=utf-8")
"""What every scraper reads, and whoever asks for nothing that we have."""


@dataclass(frozen=True)
class _Accepted:
    value: str
    quality: float
    parameters: Mapping[str, str]


def metrics_format(accept: str, *, protobuf: bool) -> Format:
    """The format that a client likes best, by its Accept header.

    Args:
        accept: the header; empty if there is none.
        protobuf: whether that is on offer.
    """
    liked = sorted(_accepted(accept), key=lambda item: -item.quality)
    for item in liked:
        found = _format(item, protobuf) if item.quality > 0 else None
        if found is not None:
            return found
    return TEXT


def gzip_wanted(accept_encoding: str) -> bool:
    """Whether a client takes gzip, and at least as readily as no encoding."""
    qualities = {item.value: item.quality for item in _accepted(accept_encoding)}
    gzip = qualities.get("gzip", qualities.get("*", 0.0))
    identity = qualities.get("identity", 0.0)
    return gzip > 0 and gzip >= identity


def _format(accepted: _Accepted, protobuf: bool) -> Format | None:
    parameters = accepted.parameters
    version = parameters.get("version", "")
    asked = parameters.get("escaping", "")
    escaping = asked if asked in ESCAPINGS else DEFAULT_ESCAPING
    if accepted.value == "application/openmetrics-text" and version in ("", "0.0.1", "1.0.0"):
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return Format("openmetrics", f"{content_type}; escaping={escaping}", escaping)
    if accepted.value == "text/plain" and version == "1.0.0":
        content_type = "text/plain; version=1.0.0; charset=utf-8"
        return Format("text", f"{content_type}; escaping={escaping}", escaping)
    if accepted.value in ("text/plain", "text/*", "*/*") and version in ("", "0.0.4"):
        return TEXT
    if protobuf and accepted.value == "application/vnd.google.protobuf":
        proto = "io.prometheus.client.MetricFamily"
        if parameters.get("proto") == proto and parameters.get("encoding") == "delimited":
            content_type = f"{accepted.value}; proto={proto}; encoding=delimited"
            return Format("protobuf", f"{content_type}; escaping={escaping}", escaping)
    return None


def _accepted(header: str) -> list[_Accepted]:
    """The items of a header, in its order."""
    items = []
    for item in header.split(","):
        value, *rest = item.split(";")
        pairs = (parameter.partition("=") for parameter in rest)
        parameters = {key.strip().lower(): text.strip().strip('"') for key, _, text in pairs}
        if value.strip():
            quality = _quality(parameters.pop("q", "1"))
            items.append(_Accepted(value.strip().lower(), quality, parameters))
    return items


def _quality(text: str) -> float:
    """0 to 1; 0, which is never chosen, for what is none."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
