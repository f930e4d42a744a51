"""What a server without a probe had to do in a window, by its gauges and its running sums."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pinchpoint.detect.window import Window
from pinchpoint.schema.samples import ServedSample, ServerSample


@dataclass(frozen=True)
class Load:
    """One model of one server over the window. Means, increases; None is not known."""

    server: str
    model: str
    readings: int
    seconds: float
    finished: float | None
    request_seconds: float | None
    queue_seconds: float | None
    executions: float | None
    generated_tokens: float | None
    preemptions: float | None
    waiting: float | None
    waiting_least: float | None
    running: float | None
    running_least: float | None
    in_flight: float | None
    cache_usage: float | None
    concurrency: float | None

    @property
    def at_work(self) -> float | None:
        """Mean number of requests that are worked on: told, or by those that ended."""
        if self.running is not None:
            return self.running
        if self.request_seconds is None or self.queue_seconds is None or not self.seconds:
            return None
        return max(0.0, self.request_seconds - self.queue_seconds) / self.seconds

    @property
    def queued(self) -> float | None:
        """Mean number of requests that wait: told, or by those that ended."""
        if self.waiting is not None:
            return self.waiting
        if self.queue_seconds is None or not self.seconds:
            return None
        return self.queue_seconds / self.seconds

    @property
    def queued_least(self) -> float | None:
        """The shortest queue of the window; its mean length where only that is known."""
        return self.queued if self.waiting_least is None else self.waiting_least

    @property
    def queue_share(self) -> float | None:
        """Share of the time in the server that is waiting."""
        if self.waiting is not None and self.running:
            return self.waiting / (self.waiting + self.running)
        if self.queue_seconds is not None and self.request_seconds:
            return min(1.0, self.queue_seconds / self.request_seconds)
        return 0.0 if self.waiting == 0 else None

    @property
    def of(self) -> str:
        """How a sentence names it."""
        return f"{self.server} ({self.model})" if self.model else self.server


def load_of(window: Window, source: int, instance: int, series: list[ServedSample]) -> Load:
    """The load of one series of samples."""
    servers = (name for of, name, _ in window.series(ServerSample) if of == source)
    waiting = _values(series, "waiting")
    running = _values(series, "running")
    last = series[-1]
    in_flight = [last.running, last.waiting, last.deferred]
    return Load(
        server=window.name(source, next(servers, 0)),
        model=window.name(source, instance) if instance else "",
        readings=len(series),
        seconds=(last.time_ns - series[0].time_ns) / 1e9,
        finished=_increase(series, "finished"),
        request_seconds=_increase(series, "request_seconds"),
        queue_seconds=_increase(series, "queue_seconds"),
        executions=_increase(series, "executions"),
        generated_tokens=_increase(series, "generated_tokens"),
        preemptions=_increase(series, "preemptions"),
        waiting=_mean(waiting),
        waiting_least=min(waiting, default=None),
        running=_mean(running),
        running_least=min(running, default=None),
        in_flight=None if last.waiting is None else sum(value or 0.0 for value in in_flight),
        cache_usage=last.cache_usage_ratio,
        concurrency=last.concurrency,
    )


def _values(series: list[ServedSample], field: str) -> list[float]:
    return [value for s in series if (value := getattr(s, field)) is not None]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _increase(series: list[ServedSample], field: str) -> float | None:
    """What a counter went up by; a restart of the server counts for nothing."""
    values = _values(series, field)
    if len(values) < 2:
        return None
    return float(sum(max(0.0, b - a) for a, b in pairwise(values)))
