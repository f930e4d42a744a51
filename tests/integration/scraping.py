"""The agent's HTTP endpoints as a client sees them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.processes import Program
from tests.support.waiting import until

TIMEOUT_SECONDS = 30.0
PAUSE_SECONDS = 0.1


class Metrics:
    """One scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = tuple(families)
        self.samples = tuple(s for family in self.families for s in family.samples)

    def values(self, name: str, **labels: str) -> list[float]:
        """Every sample of a name that carries these labels."""
        return [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        """Their sum; 0 where there is none."""
        return sum(self.values(name, **labels))

    def handled(self) -> Counter[tuple[str, str]]:
        """Finished RPCs by method and code, without the zeros."""
        counts: Counter[tuple[str, str]] = Counter()
        for sample in self.samples:
            if sample.name == "grpc_server_handled_total" and sample.value:
                labels = sample.labels
                counts[labels["grpc_method"], labels["grpc_code"]] += int(sample.value)
        return counts


@dataclass(frozen=True)
class Endpoint:
    """Where an agent serves."""

    url: str

    def get(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        """Status and body."""
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def scrape(self) -> Metrics:
        """The metrics now."""
        _, text = self.get("/metrics")
        return Metrics(text_string_to_metric_families(text))

    def scrape_when(self, enough: Callable[[Metrics], object]) -> Metrics:
        """The first scrape that is enough, or the last one at the limit."""
        scrapes: list[Metrics] = []

        def ask() -> object:
            time.sleep(PAUSE_SECONDS)
            scrapes[:] = [self.scrape()]
            return enough(scrapes[0])

        until(ask)
        return scrapes[0]

    def verdict(self) -> dict[str, Any] | None:
        """The verdict; None before there is one."""
        status, text = self.get("/api/v1/verdict")
        document: dict[str, Any] = json.loads(text)
        return document if status == 200 else None


def endpoint_of(program: Program) -> Endpoint:
    """Where the agent in a program serves, once it does."""
    return Endpoint(program.says(r"^pinchpoint: serving metrics on (http://\S+)/metrics"))
