"""A real Prometheus beside the agent: what arrives in its storage is what the clients counted."""

from __future__ import annotations

import json
import math
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from pinchpoint.expose.families import FAMILIES
from tests.integration.classifier import Counts, load, start_classifier, triton
from tests.integration.processes import Program, Programs, needed, programs
from tests.integration.scraping import PAUSE_SECONDS, TIMEOUT_SECONDS, Endpoint, Metrics
from tests.support.waiting import until

pytestmark = pytest.mark.integration

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: pinchpoint
    static_configs: [{{targets: ["{target}"]}}]
"""

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Series = dict[tuple[str, ...], float]


class Prometheus:
    """A running Prometheus, asked through its HTTP API."""

    def __init__(self, program: Program) -> None:
        address = program.says(r'msg="?Listening on"? address=(\S+)')
        program.says(r"(Server is ready to receive web requests)")
        self._url = f"http://{address}/api/v1/query"

    def query(self, expression: str, *labels: str) -> Series:
        """The value of each series of an instant query, by the values of these labels."""
        parameters = urllib.parse.urlencode({"query": expression})
        url = f"{self._url}?{parameters}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            document = json.load(response)
        return {
            tuple(series["metric"].get(label, "") for label in labels): float(series["value"][1])
            for series in document["data"]["result"]
        }

    def handled(self) -> Counts:
        """Finished RPCs by method and code, without the zeros."""
        labels = ("grpc_method", "grpc_code")
        counts = self.query("grpc_server_handled_total > 0", *labels)
        return Counter({(method, code): int(n) for (method, code), n in counts.items()})

    def handled_once(self, expected: Counts) -> Counts:
        """The same, once it is as expected, or at the limit."""

        def ask() -> bool:
            time.sleep(PAUSE_SECONDS)
            return self.handled() == expected

        until(ask)
        return self.handled()


@dataclass(frozen=True)
class Scraped:
    """An agent, the Prometheus that scrapes it, and what its server's clients counted."""

    agent: Endpoint
    prometheus: Prometheus
    sent: Counts


def start_prometheus(started: Programs, agent: Endpoint, directory: Path) -> Prometheus:
    """A Prometheus of its own storage that scrapes the agent each second."""
    config = directory / "prometheus.yml"
    config.write_text(CONFIG.format(target=agent.url.removeprefix("http://")))
    program = started.start(
        needed("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    )
    return Prometheus(program)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A watched server under load from start to end of which Prometheus looks."""
    needed("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    with programs(directory) as started:
        watched = start_classifier(started)
        prometheus = start_prometheus(started, watched.agent, directory)
        until(lambda: prometheus.query("up") == {(): 1.0})
        sent = load(started, watched.target, rate=20, seconds=8)
        sent += triton(started, watched.target).counts
        prometheus.handled_once(sent)
        yield Scraped(watched.agent, prometheus, sent)


@pytest.fixture(scope="module")
def text(scraped: Scraped) -> str:
    """A scrape in the text format."""
    return scraped.agent.get("/metrics")[1]


def test_the_target_is_up(scraped: Scraped) -> None:
    """No scrape of the run has failed."""
    assert scraped.prometheus.query("up", "job") == {("pinchpoint",): 1.0}
    assert scraped.prometheus.query("min_over_time(up[1h])") == {(): 1.0}


def test_prometheus_holds_the_clients_counts(scraped: Scraped) -> None:
    """Per method and code the stored totals are what the clients counted."""
    assert scraped.prometheus.handled() == scraped.sent


def test_no_counter_of_requests_ever_falls(scraped: Scraped) -> None:
    """To Prometheus a total that falls is a restart: its rate would jump."""
    for name in ("grpc_server_started_total", "grpc_server_handled_total"):
        resets = scraped.prometheus.query(f"resets({name}[1h])", "grpc_method", "grpc_code")
        assert set(resets.values()) == {0.0}, name


def test_there_is_exactly_one_primary_at_any_time(scraped: Scraped) -> None:
    """Joins on the verdict stay one-to-one over the whole run, changes of label included."""
    query = scraped.prometheus.query
    primaries = "count(pinchpoint_bottleneck_primary_info)"
    assert query(primaries) == {(): 1.0}
    for aggregate in ("min", "max"):
        assert query(f"{aggregate}_over_time({primaries}[1m:1s])") == {(): 1.0}


def test_the_server_was_seen_at_work(scraped: Scraped) -> None:
    """Rates over the run show the load, the CPU it cost and the model behind it."""
    query = scraped.prometheus.query
    assert query("sum(increase(pinchpoint_forward_seconds_count[1h])) > 100")
    assert query("sum(increase(pinchpoint_process_cpu_seconds_total[1h])) > 0.5")
    assert query("pinchpoint_model_info", "model") == {("ImageClassifier",): 1.0}


def test_components_sum_to_the_latency_of_all_requests(scraped: Scraped) -> None:
    """The cumulated decomposition and the latency histogram tell of the same seconds; the first
    from a sample, where more than 50 requests come in a second."""
    query = scraped.prometheus.query

    def sums() -> tuple[float, float]:
        (components,) = query("sum(pinchpoint_request_time_seconds_total)").values()
        (latencies,) = query("sum(pinchpoint_request_seconds_sum)").values()
        return components, latencies

    until(lambda: math.isclose(*sums(), rel_tol=0.05))
    components, latencies = sums()
    assert components == pytest.approx(latencies, rel=0.05)


def test_promtool_finds_nothing_to_complain_of(text: str) -> None:
    """The linter of Prometheus accepts the scrape of a server that runs a model."""
    assert "pinchpoint_forward_seconds_count{" in text
    checked = subprocess.run(
        [needed("promtool"), "check", "metrics"],
        input=text,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_no_value_is_nan(text: str) -> None:
    """What is not known is absent."""
    metrics = Metrics(text_string_to_metric_families(text))
    assert len(metrics.samples) > 100
    assert [sample.name for sample in metrics.samples if math.isnan(sample.value)] == []


def test_every_family_is_one_of_the_reference(text: str) -> None:
    """Name, type, help and labels of each exposed family are the documented ones."""
    documented = {family.name: family for family in FAMILIES}
    exposed = Metrics(text_string_to_metric_families(text)).families
    assert exposed
    for family in exposed:
        reference = documented[family.name]
        assert (family.type, family.documentation) == (reference.kind, reference.help)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(reference.labels)


def test_both_formats_parse_and_tell_the_same(scraped: Scraped) -> None:
    """Text and OpenMetrics, each in its own type, hold the same series."""
    text = scraped.agent.get("/metrics")[1]
    openmetrics = scraped.agent.get("/metrics", OPENMETRICS)[1]
    assert openmetrics.endswith("# EOF\n")
    assert "# EOF" not in text
    names = [
        {(sample.name, *sorted(sample.labels.items())) for sample in metrics.samples}
        for metrics in (
            Metrics(text_string_to_metric_families(text)),
            Metrics(openmetrics_families(openmetrics)),  # type: ignore[no-untyped-call]
        )
    ]
    assert names[0] == names[1]
