"""What an adapter is: a table from the names of a server's metrics to the fields of a sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pinchpoint.adapters.exposition import Series
from pinchpoint.schema.wire import SAMPLE_VALUE_MAX

Values = dict[str, dict[str, float]]
"""By model ("" where the server names none): the fields of a `ServedSample` that were found."""

REPLICA_LABELS = frozenset(("tp_rank", "pp_rank", "moe_ep_rank"))
"""Ranks that work on the same requests: each says the same, so one of them speaks."""

MICROSECONDS = 1e-6


@dataclass(frozen=True)
class Source:
    """Where a field may be found.

    Attributes:
        names: spellings of one series; the first that is there is taken.
        labels: only series with these; an empty value stands for an absent label too.
        scale: to the base unit.
    """

    names: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0

    def fits(self, series: Series) -> bool:
        """Whether a series of one of the names is meant."""
        return all(series.labels.get(name, "") == text for name, text in self.labels.items())


def gauge(name: str, **labels: str) -> Source:
    """A gauge."""
    return Source((name,), labels)


def counter(name: str, scale: float = 1.0) -> Source:
    """A counter, whether its client library appends `_total` or not."""
    return Source((f"{name}_total", name), scale=scale)


def sum_of(name: str, **labels: str) -> Source:
    """What a histogram or a summary adds up to."""
    return Source((f"{name}_sum",), labels)


def count_of(name: str) -> Source:
    """How many values a histogram or a summary has seen."""
    return Source((f"{name}_count",))


@dataclass(frozen=True)
class Adapter:
    """One kind of server.

    Attributes:
        kind: its name, in the configuration and in signals.
        model_label: the label that names the model; "" where there is none.
        fields: for each field of `ServedSample`, where it is found, the best first.
    """

    kind: str
    model_label: str
    fields: Mapping[str, tuple[Source, ...]]

    @property
    def names(self) -> frozenset[str]:
        """Every series that is looked for."""
        sources = (source for sources in self.fields.values() for source in sources)
        return frozenset(name for source in sources for name in source.names)

    def read(self, exposition: Iterable[Series]) -> Values:
        """What the server says of each of its models."""
        by_name: dict[str, list[Series]] = {}
        for series in exposition:
            if 0 <= series.value <= SAMPLE_VALUE_MAX:  # NaN fails too: no reading
                by_name.setdefault(series.name, []).append(series)
        values: Values = {}
        for name, sources in self.fields.items():
            for model, value in self._first(sources, by_name, name).items():
                values.setdefault(model, {})[name] = value
        return values

    def _first(
        self, sources: tuple[Source, ...], by_name: Mapping[str, list[Series]], field_name: str
    ) -> dict[str, float]:
        for source in sources:
            for name in source.names:
                found = [series for series in by_name.get(name, ()) if source.fits(series)]
                if found:
                    return self._by_model(found, source.scale, field_name)
        return {}

    def _by_model(self, found: list[Series], scale: float, field_name: str) -> dict[str, float]:
        """Summed over engines, versions and reasons; the fullest of several caches."""
        parts: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for series in found:
            labels = frozenset(i for i in series.labels.items() if i[0] not in REPLICA_LABELS)
            of_model = parts.setdefault(series.labels.get(self.model_label, ""), {})
            of_model[labels] = max(series.value, of_model.get(labels, 0.0))
        together = max if field_name.endswith("_ratio") else sum
        return {model: together(part.values()) * scale for model, part in parts.items()}
