"""The text that a server's `/metrics` answers with, as series."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"

LINES_MAX = 20_000
"""Lines that are parsed at most, a quarter of a second's work. Five hundred models of Triton make
half of them."""

_TYPE = "# TYPE "
_PARSERS: dict[str, Callable[[str], Iterable[Metric]]] = {
    TEXT: text_string_to_metric_families,
    OPENMETRICS: openmetrics.text_string_to_metric_families,
}
_AFTER_NAME = frozenset("{ \t")


class ExpositionError(Exception):
    """The text is no exposition; the message completes "it …"."""


class Series(NamedTuple):
    """One sample of an exposition."""

    name: str
    labels: dict[str, str]
    value: float


class Exposition(NamedTuple):
    """The series that were asked for.

    Attributes:
        series: in the order of the text.
        declared: one of the names is there, be it without a series yet.
    """

    series: list[Series]
    declared: bool


def read(body: bytes, content_type: str, names: Collection[str]) -> Exposition:
    """What an exposition says under some names.

    Most lines of an exposition are buckets of histograms, which nobody asks for: they are left
    out before the parser, which is slow, sees them.

    Raises:
        ExpositionError: it is something else than metrics, or cannot be parsed.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _PARSERS:
        raise ExpositionError(f"answers with {media_type or 'an unnamed type'}, not with metrics")
    try:
        text = body.decode("utf-8")
        wanted = text if media_type == OPENMETRICS else _of_names(text, names)
    except UnicodeDecodeError as error:
        raise ExpositionError("sends metrics that are not UTF-8") from error
    if wanted.count("\n") > LINES_MAX:
        raise ExpositionError(f"sends more than {LINES_MAX} lines of metrics")
    try:
        families = list(_PARSERS[media_type](wanted))
    except Exception as error:  # what a parser does with arbitrary bytes is its own affair
        raise ExpositionError("sends metrics that cannot be parsed") from error
    series = [
        Series(sample.name, dict(sample.labels), float(sample.value))
        for family in families
        for sample in family.samples
        if sample.name in names
    ]
    return Exposition(series, bool(series) or _declares(text, names))


def _declares(text: str, names: Collection[str]) -> bool:
    types = (line[len(_TYPE) :] for line in text.split("\n") if line.startswith(_TYPE))
    return any(_name(declared) in names for declared in types)


def _of_names(text: str, names: Collection[str]) -> str:
    wanted = tuple(names)
    whole = text.split("\n")[:-1]  # a line without its end may have been cut off
    lines = (line for line in whole if line.startswith(wanted))
    return "".join(f"{line}\n" for line in lines if _name(line) in names)


def _name(line: str) -> str:
    end = next((i for i, character in enumerate(line) if character in _AFTER_NAME), len(line))
    return line[:end]
