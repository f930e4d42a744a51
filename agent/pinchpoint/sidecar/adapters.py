"""Servers without a probe, by what their own `/metrics` say.

| what happens | what is done |
|---|---|
| the server answers | a source is opened; each scrape is a sample a model, and one of the server |
| nothing listens any more | the source is closed: gauges end, counters stay |
| it listens and does not answer | the source stays: the detector calls a silent source hanging |
| it answers something else | the source is closed, the reason is said once and is a signal's |
| it restarts | its counters begin again; ours go on from where they were |

A target is two sources: one that speaks of the scrapes (signal, duration, errors), which is
always there, and one that speaks for the server, which comes and goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from pinchpoint.adapters.adapter import Values
from pinchpoint.adapters.scrape import Scrape, Scraper
from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.schema.frames import Frame, FrameKind
from pinchpoint.schema.observations import Name, NameKind, Observation, SourceClosed, SourceOpened
from pinchpoint.schema.samples import (
    Sample,
    SamplerSample,
    ServedSample,
    ServerSample,
    SignalSample,
)
from pinchpoint.schema.terms import OTHER
from pinchpoint.schema.wire import (
    NAME,
    name_text,
    pack_sample,
    unsound_fields,
)
from pinchpoint.sidecar.source import Arrival, made_here

FIRST_SOURCE = 1_000_000
"""Rings are numbered from 1 as they come; a million of them outlive any agent."""

MODELS_MAX = 16
"""Models of one server with samples of their own; the rest are one, `_OTHER`."""

_NAMES_MAX = MODELS_MAX + 2
"""Beside the models the server itself and `_OTHER`."""

REASONS_MAX = 32
"""Reasons that one target may give; more are `_OTHER`."""


class Adapters:
    """Everything that the targets say.

    Args:
        targets: of known kinds, with `http` or `https` addresses. One that is there twice is
            read once.
        say: takes one sentence for the operator.
    """

    def __init__(self, targets: Sequence[AdapterTarget], say: Callable[[str], None]) -> None:
        self._say = say
        self._numbers = count(FIRST_SOURCE, 2)
        self._targets: dict[AdapterTarget, _Target] = {}
        self._targets = self._begun(targets)

    def poll(self) -> Iterator[Arrival]:
        """What has come since the last time. Never waits for a server."""
        for target in self._targets.values():
            yield from target.poll()

    def change(self, targets: Sequence[AdapterTarget], now_ns: int) -> Iterator[Arrival]:
        """Read these from now on, undisturbed those that are read already; or, if one of them
        cannot be begun, raise and change nothing. What is no longer read is said to have ended:
        its gauges and signals end."""
        before, self._targets = self._targets, self._begun(targets)
        gone = [before[target] for target in before if target not in self._targets]
        for one in gone:
            one.close()
        for one in gone:
            yield from one.end(now_ns)

    def close(self) -> None:
        """Stop."""
        for target in self._targets.values():
            target.close()

    def _begun(self, targets: Sequence[AdapterTarget]) -> dict[AdapterTarget, _Target]:
        """All of these, or none that is new."""
        begun: dict[AdapterTarget, _Target] = {}
        try:
            for target in targets:
                if target not in self._targets and target not in begun:
                    begun[target] = _Target(next(self._numbers), target, self._say)
        except BaseException:
            for one in begun.values():
                one.close()
            raise
        running = {**self._targets, **begun}
        return {target: running[target] for target in targets}


class _Source:
    """Numbers what one source says."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._names: dict[str, int] = {}
        self._samples = 0

    def name(self, text: str, kind: NameKind, most: int) -> Iterator[Arrival]:
        """A name's record, if it is new and there is room for it."""
        if text not in self._names and len(self._names) < most:
            name_id = self._names[text] = len(self._names) + 1
            encoded = name_text(text)
            slot = NAME.pack(name_id, kind, 0, len(encoded), encoded, name_id)
            name = Name(name_id, kind, 0, encoded.decode())
            yield Arrival(Observation(self.number, name), Frame(FrameKind.NAME, self.number, slot))

    def id_of(self, text: str) -> int:
        """What stands for a name; 0 if there was no room for it."""
        return self._names.get(text, 0)

    def sample(self, sample: Sample) -> Arrival:
        """A sample, without what can be no reading: a sum may be where its parts are not."""
        self._samples += 1
        absent: dict[str, Any] = dict.fromkeys(unsound_fields(sample))
        sample = replace(sample, **absent)
        frame = Frame(FrameKind.DETAIL, self.number, pack_sample(self._samples, sample))
        return Arrival(Observation(self.number, sample), frame)


class _Target:
    def __init__(self, number: int, target: AdapterTarget, say: Callable[[str], None]) -> None:
        self._target = target
        self._say = say
        self._scraper = Scraper(target)
        self._watch = _Source(number)
        self._number = number + 1
        self._server: _Source | None = None
        self._errors = 0
        self._failing = False

    def poll(self) -> Iterator[Arrival]:
        for scrape in self._scraper.take():
            yield from self._tell(scrape)
            if scrape.values is not None:
                yield from self._served(scrape.time_ns, scrape.values)
            elif not scrape.silent:
                yield from self._let_go(scrape.time_ns)

    def end(self, now_ns: int) -> Iterator[Arrival]:
        yield from self._let_go(now_ns)
        yield made_here(self._watch.number, SourceClosed(now_ns))

    def close(self) -> None:
        self._scraper.close()

    def _tell(self, scrape: Scrape) -> Iterator[Arrival]:
        """How the scrape went: for the operator once, and as samples."""
        failed = scrape.values is None
        if failed and not self._failing:
            self._say(
                f"{self._target.kind} at {self._target.url} {scrape.reason}; it is read as soon as "
                "it answers with its metrics"
            )
        self._failing = failed
        self._errors += failed
        signal = f"adapter/{self._target.kind}"
        yield from self._watch.name(signal, NameKind.OTHER, REASONS_MAX)
        if failed:
            yield from self._watch.name(scrape.reason, NameKind.OTHER, REASONS_MAX)
        instance = self._watch.id_of(signal)
        yield self._watch.sample(
            SignalSample(
                scrape.time_ns,
                instance,
                available=float(not failed),
                reason_id=self._watch.id_of(scrape.reason),
            )
        )
        yield self._watch.sample(
            SamplerSample(
                scrape.time_ns, instance, duration_ns=scrape.duration_ns, errors=self._errors
            )
        )

    def _served(self, time_ns: int, values: Values) -> Iterator[Arrival]:
        if self._server is None:
            self._server = _Source(self._number)
            yield made_here(self._number, SourceOpened(time_ns, 0, 0))
            yield from self._server.name(self._target.kind, NameKind.SERVER, _NAMES_MAX)
        server = self._server
        models: dict[int, dict[str, float]] = {}
        for model, fields in values.items():
            yield from self._named(server, model)
            model_id = server.id_of(model) or server.id_of(OTHER) if model else 0
            models[model_id] = _together(models.get(model_id, {}), fields)
        for model_id, fields in models.items():
            yield server.sample(
                ServedSample(time_ns, model_id, concurrency=self._target.concurrency, **fields)
            )
        yield server.sample(self._totals(time_ns, list(models.values())))

    @staticmethod
    def _named(server: _Source, model: str) -> Iterator[Arrival]:
        """The records of a model's name, or of the one that stands for all there is no room for."""
        if model:
            yield from server.name(model, NameKind.MODEL, _NAMES_MAX - 1)
            if not server.id_of(model):
                yield from server.name(OTHER, NameKind.MODEL, _NAMES_MAX)

    def _totals(self, time_ns: int, models: Sequence[dict[str, float]]) -> ServerSample:
        """What the server holds now, all models together."""
        running = _total(models, "running")
        queued = _total(models, "waiting", "deferred")
        concurrency = self._target.concurrency
        workers = None if concurrency is None else concurrency * len(models)
        return ServerSample(
            time_ns,
            1,  # the first name of the source
            workers=workers,
            workers_busy=None if workers is None or running is None else min(running, workers),
            queued=queued,
            in_flight=None if running is None or queued is None else running + queued,
        )

    def _let_go(self, now_ns: int) -> Iterator[Arrival]:
        if self._server is not None:
            self._server = None
            yield made_here(self._number, SourceClosed(now_ns))


def _total(models: Sequence[dict[str, float]], *fields: str) -> float | None:
    values = [model[field] for model in models for field in fields if field in model]
    return sum(values) if values else None


def _together(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Two models as one: the fuller cache, and the sum of everything else."""
    fields = {**other, **one}
    for name in one.keys() & other.keys():
        values = one[name], other[name]
        fields[name] = max(values) if name.endswith("_ratio") else sum(values)
    return fields
