from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pinchpoint import __version__
from pinchpoint.detect.verdict import Verdict
from pinchpoint.expose.http import DEFAULTS
from pinchpoint.expose.state import PublishedState
from pinchpoint.expose.web_landing import landing_page
from pinchpoint.expose.web_options import WebOptions
from pinchpoint.snapshot import AgentFacts, Snapshot
from tests.support.observations import known
from tests.unit.detect.faults import FAULTS

SERVED = "https://127.0.0.1:10061, basic authentication"
VOID = {"meta", "br", "link", "img"}


class _Checked(HTMLParser):
    """Every tag is closed; text and addresses are noted."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def page(snapshot: Snapshot | None, options: WebOptions = DEFAULTS) -> _Checked:
    return _Checked(landing_page(PublishedState(snapshot), options, SERVED))


def test_the_page_says_what_this_is_and_loads_nothing() -> None:
    """Name, version, where it is served; all addresses are its own."""
    shown = page(known().pipeline.snapshot(AgentFacts(rings_attached=3)))
    assert f"Pinchpoint {__version__}" in shown.text
    assert SERVED in shown.text
    assert "Servers attached3" in shown.text
    assert shown.addresses == ["metrics", "api/v1/verdict", "-/healthy", "-/ready"]


@pytest.mark.parametrize("label", sorted(FAULTS)[:2])
def test_a_bottleneck_is_in_the_headline(label: str) -> None:
    """With its summary below."""
    learned, fault = FAULTS[label]
    scene = known(learned)
    scene.run(fault, 12)
    snapshot = scene.pipeline.snapshot(AgentFacts())
    shown = page(snapshot)
    assert f"bottleneck: {label}" in shown.text
    assert snapshot.verdict.reason in shown.text


def test_what_is_healthy_is_said_so() -> None:
    """In a word."""
    assert "healthy" in page(known().pipeline.snapshot(AgentFacts())).text


def test_before_the_first_look_the_page_says_so() -> None:
    """Not an error."""
    assert "starting" in page(None).text


def test_what_clients_named_is_text() -> None:
    """Method names end up in summaries."""
    verdict = Verdict(0, 0, reason='<script>alert("x")</script> & more')
    shown = page(replace(known().pipeline.snapshot(AgentFacts()), verdict=verdict))
    assert '<script>alert("x")</script> & more' in shown.text


def test_options_are_told() -> None:
    """Those that the reader may be looking for."""
    shown = page(None, WebOptions(enable_lifecycle=True, native_histograms=True))
    assert "POST /-/reload" in shown.text
    assert "offered" in shown.text
    assert "/-/reload" not in page(None).text
