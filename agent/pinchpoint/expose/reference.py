"""`docs/reference/metrics.md`, made from the families themselves.

python -m pinchpoint.expose.reference > docs/reference/metrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pinchpoint.expose.families import GROUPS
from pinchpoint.expose.family import Family
from pinchpoint.expose.state import ScrapeStats
from pinchpoint.expose.web_families import scrape_families
from pinchpoint.pipeline.caps import Caps
from pinchpoint.pipeline.costs import Costs
from pinchpoint.pipeline.options import PipelineOptions

_HEAD = """\
# Metrics

Every series that the agent can expose at `/metrics`. This page is made from the code
(`python -m pinchpoint.expose.reference`); a test keeps it in step.

A family without a value has no series: what could not be read is absent, never 0, and
`pinchpoint_signal_available` says so. Counters count from the moment the agent attached; a server
that restarts does not reset them. Histograms are classic ones; where the configuration allows
native histograms and the scraper asks for protobuf, it gets those too. OpenMetrics carries the
trace ids of sampled requests as exemplars.

*Experimental* families may change their name, their labels or their meaning; the others are kept.
"""

NOT_YET = (
    ("pinchpoint_bottleneck_confidence_ratio", "the detector has no measured confidence yet"),
    ('pinchpoint_bottleneck_state{state="confirmed"}', "all states are provisional so far"),
    ("pinchpoint_whatif_capacity_gain_ratio", "the what-if tells latency only"),
    ("pinchpoint_capacity_requests_per_second", "needs the replay of whole workloads"),
    ("pinchpoint_headroom_ratio", "comes with the capacity"),
    (
        "pinchpoint_model_flops",
        "counting them puts a mode around the forward, which costs more than the probe may",
    ),
    ("pinchpoint_model_info{version}", "no framework tells it in a common way"),
)
"""Names of the design without a family, and why."""

_ROW = "| family | kind | unit | labels | |\n|---|---|---|---|---|"


def reference() -> str:
    """The page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield from _budget()
    for title, families in (*GROUPS, ("Scraping", scrape_families(ScrapeStats()))):
        yield from ("", f"## {title}", "", _ROW)
        for family in families:
            yield _row(family)
    yield from ("", "## Not yet", "", "Designed, and not exposed so far:", "")
    for name, reason in NOT_YET:
        yield f"- `{name}`: {reason}."


def _row(family: Family) -> str:
    name = f"{family.name}_total" if family.kind == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in family.labels)
    experimental = "*Experimental.* " if family.stability == "experimental" else ""
    return f"| `{name}` | {family.kind} | {family.unit} | {labels} | {experimental}{family.help} |"


def _budget() -> Iterator[str]:
    caps, costs = Caps(), Costs(PipelineOptions())
    yield _BUDGET.format(caps=caps, costs=costs)


_BUDGET = """\
## How many series

Never more than {caps.series}, whatever clients send. By default there is room for
{caps.methods} gRPC methods and HTTP routes, {caps.statuses} statuses of a route, {caps.models}
models, {caps.layers} layers of a model, {caps.stages} named stages and {caps.readings} instances of
any reading, as long as all of them together stay below the limit. A name that comes too late is
folded into `_OTHER`, counted in `pinchpoint_names_folded_total` and said once in the agent's log;
no request is lost. The configuration can change each of these numbers.

| what | series |
|---|---|
| a server without methods and models, every reading there | about 320 |
| a gRPC method | 71, and one for each further code, {costs.rpcs} at most |
| an HTTP method and route | {costs.route} and {costs.status} for each status |
| a model | {costs.model} at most, 3 for what it is, and one for each layer |
| a named stage | {costs.stage} |

`tests/unit/test_budget.py` counts them on floods of every kind of name in every order."""


if __name__ == "__main__":
    sys.stdout.write(reference())
