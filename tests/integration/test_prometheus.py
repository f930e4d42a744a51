"""Real Prometheus of three versions beside one agent: what arrives in their storage is what the
clients counted."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.state import ScrapeStats
from pinchpoint.expose.web_families import scrape_families
from tests.integration.classifier import Counts, load, start_classifier, triton
from tests.integration.processes import needed, programs
from tests.integration.prometheus_server import (
    JOB,
    VERSIONS,
    Prometheus,
    prometheus_program,
    start_prometheus,
)
from tests.integration.scraping import TIMEOUT_SECONDS, Endpoint, Metrics
from tests.support.waiting import until

pytestmark = pytest.mark.integration

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Scraped:
    """An agent, the Prometheus that scrape it, and what its server's clients counted."""

    agent: Endpoint
    prometheus: Mapping[str, Prometheus]
    sent: Counts


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A watched server under load from start to end of which every Prometheus looks."""
    for version in VERSIONS:
        prometheus_program(version)
    directory = tmp_path_factory.mktemp("prometheus")
    with programs(directory) as started:
        watched = start_classifier(started)
        prometheus = {
            version: start_prometheus(started, version, watched.agent, directory / version)
            for version in VERSIONS
        }
        for each in prometheus.values():
            assert each.up_once()
        sent = load(started, watched.target, rate=20, seconds=8)
        sent += triton(started, watched.target).counts
        for each in prometheus.values():
            each.handled_once(sent)
        yield Scraped(watched.agent, prometheus, sent)


@pytest.fixture(params=VERSIONS)
def prometheus(scraped: Scraped, request: pytest.FixtureRequest) -> Prometheus:
    """Each of them."""
    return scraped.prometheus[request.param]


@pytest.fixture(scope="module")
def text(scraped: Scraped) -> str:
    """A scrape in the text format."""
    return scraped.agent.get("/metrics")[1]


def test_the_versions_differ(scraped: Scraped) -> None:
    """One before formats could be chosen, one before and one since a blank type is refused."""
    versions = [prometheus.version() for prometheus in scraped.prometheus.values()]
    assert versions == sorted(set(versions))
    assert versions[-1] >= (3, 0)


def test_the_target_is_up(prometheus: Prometheus) -> None:
    """In every format, and no scrape of the run has failed."""
    assert prometheus.up("up")
    assert prometheus.up("min_over_time(up[1h])")


def test_prometheus_holds_the_clients_counts(scraped: Scraped, prometheus: Prometheus) -> None:
    """Per method and code the stored totals are what the clients counted, in every format."""
    for job in prometheus.jobs:
        assert prometheus.handled_once(scraped.sent, job) == scraped.sent, job


def test_each_format_is_the_one_that_was_asked_for(prometheus: Prometheus) -> None:
    """Only OpenMetrics names counters without `_total`; every version prefers it."""
    for job in prometheus.jobs:
        name = "grpc_server_handled"
        openmetrics = job in (JOB, "OpenMetricsText1.0.0")
        told = {name if openmetrics else f"{name}_total"}
        assert prometheus.told_names(job) & {name, f"{name}_total"} == told, job


def test_no_counter_of_requests_ever_falls(prometheus: Prometheus) -> None:
    """To Prometheus a total that falls is a restart: its rate would jump."""
    for name in ("grpc_server_started_total", "grpc_server_handled_total"):
        resets = prometheus.query(f"resets({name}[1h])", "job", "grpc_method", "grpc_code")
        assert set(resets.values()) == {0.0}, name


def test_there_is_exactly_one_primary_at_any_time(prometheus: Prometheus) -> None:
    """Joins on the verdict stay one-to-one over the whole run, changes of label included."""
    primaries = "count(pinchpoint_bottleneck_primary_info)"
    assert prometheus.query(primaries) == {(): 1.0}
    for aggregate in ("min", "max"):
        assert prometheus.query(f"{aggregate}_over_time({primaries}[1m:1s])") == {(): 1.0}


def test_the_server_was_seen_at_work(prometheus: Prometheus) -> None:
    """Rates over the run show the load, the CPU it cost and the model behind it."""
    query = prometheus.query
    assert query("sum(increase(pinchpoint_forward_seconds_count[1h])) > 100")
    assert query("sum(increase(pinchpoint_process_cpu_seconds_total[1h])) > 0.5")
    assert query("pinchpoint_model_info", "model") == {("ImageClassifier",): 1.0}


def test_components_sum_to_the_latency_of_all_requests(prometheus: Prometheus) -> None:
    """The cumulated decomposition and the latency histogram tell of the same seconds; the first
    from a sample, where more than 50 requests come in a second."""

    def sums() -> tuple[float, float]:
        (components,) = prometheus.query("sum(pinchpoint_request_time_seconds_total)").values()
        (latencies,) = prometheus.query("sum(pinchpoint_request_seconds_sum)").values()
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
    families = (*FAMILIES, *scrape_families(ScrapeStats()))
    documented = {family.name: family for family in families}
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
