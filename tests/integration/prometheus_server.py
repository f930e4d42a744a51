"""Prometheus of several versions, started for a test and asked through its HTTP API."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.classifier import Counts
from tests.integration.processes import Program, Programs, needed
from tests.integration.scraping import PAUSE_SECONDS, TIMEOUT_SECONDS, Endpoint
from tests.support.scripts import ROOT
from tests.support.waiting import until

FETCHED = ROOT / ".cache/prometheus"
"""Where scripts/prometheus-versions puts them."""

VERSIONS = ("installed", "trixie", "forky")
"""Debian 12's, which is 2.42 or what this machine has, and those of later releases."""

JOB = "pinchpoint"
"""Scraped in the format that the version itself asks for."""

PROTOCOLS: Mapping[str, Sequence[str]] = {
    "installed": (),
    "trixie": ("PrometheusText0.0.4", "OpenMetricsText1.0.0"),
    "forky": ("PrometheusText0.0.4", "PrometheusText1.0.0", "OpenMetricsText1.0.0"),
}
"""The `scrape_protocols` that a version can be held to, each a job of its own, named after it.
These jobs keep the finished RPCs only, so that other queries need no `job`."""

SCRAPE_SECONDS = 2

Series = dict[tuple[str, ...], float]


class Prometheus:
    """A running Prometheus, asked through its HTTP API."""

    def __init__(self, program: Program, protocols: Sequence[str] = ()) -> None:
        address = program.says(r'msg="?Listening on"?.* address=(\S+)')
        program.says(r"(Server is ready to receive web requests)")
        self._url = f"http://{address}/api/v1"
        self.jobs = (JOB, *protocols)

    def query(self, expression: str, *labels: str) -> Series:
        """The value of each series of an instant query, by the values of these labels."""
        found = self._get("query", query=expression)["result"]
        return {
            tuple(series["metric"].get(label, "") for label in labels): float(series["value"][1])
            for series in found
        }

    def up(self, expression: str) -> bool:
        """Whether `up`, or an expression of it, is 1 for every job."""
        return self.query(expression, "job") == {(job,): 1.0 for job in self.jobs}

    def up_once(self) -> bool:
        """The same, once every job has been scraped; False at the limit."""
        return until(lambda: self.up("up"))

    def handled(self, job: str = JOB) -> Counts:
        """Finished RPCs by method and code, without the zeros."""
        labels = ("grpc_method", "grpc_code")
        counts = self.query(f'grpc_server_handled_total{{job="{job}"}} > 0', *labels)
        return Counter({(method, code): int(n) for (method, code), n in counts.items()})

    def handled_once(self, expected: Counts, job: str = JOB) -> Counts:
        """The same, once it is as expected, or at the limit."""

        def ask() -> bool:
            time.sleep(PAUSE_SECONDS)
            return self.handled(job) == expected

        until(ask)
        return self.handled(job)

    def told_names(self, job: str) -> set[str]:
        """The names that the TYPE lines of a job's target give."""
        found = self._get("targets/metadata", match_target=f'{{job="{job}"}}')
        return {entry["metric"] for entry in found}

    def version(self) -> tuple[int, ...]:
        """Major and minor version."""
        major, minor, *_ = self._get("status/buildinfo")["version"].split(".")
        return int(major), int(minor)

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            return json.load(response)["data"]


def prometheus_program(version: str) -> str:
    """The path of one of `VERSIONS`. Without it the test is skipped, but fails in CI."""
    if version == "installed":
        return needed("prometheus")
    program = FETCHED / version / "prometheus"
    if not program.exists():
        reason = f"no Prometheus of {version}: run scripts/prometheus-versions"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(program)


def start_prometheus(
    started: Programs, version: str, agent: Endpoint, directory: Path, *flags: str
) -> Prometheus:
    """A Prometheus of its own storage that scrapes the agent.

    Args:
        started: owns the program.
        version: one of `VERSIONS`.
        agent: the target.
        directory: for its configuration and storage.
        flags: more of its command line.
    """
    protocols = PROTOCOLS[version]
    directory.mkdir()
    config = directory / "prometheus.yml"
    config.write_text(json.dumps(_config(agent.url.removeprefix("http://"), protocols)))
    program = started.start(
        prometheus_program(version),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        *flags,
    )
    return Prometheus(program, protocols)


def _config(target: str, protocols: Sequence[str]) -> dict[str, Any]:
    """YAML's JSON part."""
    targets = {"static_configs": [{"targets": [target]}]}
    keep = {
        "source_labels": ["__name__"],
        "regex": "grpc_server_handled_total",
        "action": "keep",
    }
    held = [
        {
            "job_name": protocol,
            "scrape_protocols": [protocol],
            "metric_relabel_configs": [keep],
            **targets,
        }
        for protocol in protocols
    ]
    period = f"{SCRAPE_SECONDS}s"
    return {
        "global": {"scrape_interval": period, "scrape_timeout": period},
        "scrape_configs": [{"job_name": JOB, **targets}, *held],
    }
