from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.expose.negotiate import ESCAPINGS, gzip_wanted, metrics_format

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_42_NATIVE = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,"
    "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/*;q=0.5", "text"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text"),
        ("text/html", "text"),
        ("application/openmetrics-text", "openmetrics"),
        ("Application/OpenMetrics-Text ; Version=1.0.0 ; charset=utf-8", "openmetrics"),
        ("application/openmetrics-text;version=99.0.0", "text"),
        ("application/openmetrics-text;version=abc", "text"),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.2", "text"),
        ("text/plain;q=0.2,application/openmetrics-text;q=0.7", "openmetrics"),
        ("application/openmetrics-text;q=0,text/plain;q=0.2", "text"),
        ("application/openmetrics-text;q=2", "text"),
        ("application/openmetrics-text;q=nan", "text"),
        ("application/openmetrics-text;q=abc", "text"),
        (PROMETHEUS_2_42, "openmetrics"),
        (PROMETHEUS_2_42_NATIVE, "protobuf"),
        (PROMETHEUS_3, "openmetrics"),
        (f"{PROTOBUF};encoding=delimited", "protobuf"),
        (f"{PROTOBUF};encoding=text", "text"),
        ("application/vnd.google.protobuf", "text"),
    ],
)
def test_the_best_liked_format_is_given(accept: str, kind: str) -> None:
    """By quality, then by the client's order; what is not known never wins, text always may."""
    assert metrics_format(accept, protobuf=True).kind == kind


def test_protobuf_is_not_given_where_it_is_not_offered() -> None:
    """Then it is the next best."""
    assert metrics_format(PROMETHEUS_2_42_NATIVE, protobuf=False).kind == "openmetrics"


@pytest.mark.parametrize("escaping", ESCAPINGS)
def test_the_escaping_that_was_asked_for_is_named(escaping: str) -> None:
    """Prometheus 3 wants to know."""
    chosen = metrics_format(f"text/plain;version=1.0.0;escaping={escaping}", protobuf=False)
    assert chosen.escaping == escaping
    assert chosen.content_type.endswith(f"version=1.0.0; charset=utf-8; escaping={escaping}")


@given(st.text())
def test_nothing_in_the_header_reaches_the_answer(accept: str) -> None:
    """Every content type is one of ours, never blank."""
    content_type = metrics_format(accept, protobuf=True).content_type
    assert content_type.startswith(("text/plain; v", "application/openmetrics-text; v"))
    assert content_type.isprintable()


@pytest.mark.parametrize(
    ("accept_encoding", "wanted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("gzip, deflate, br", True),
        ("deflate", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("identity;q=0.5, gzip", True),
        ("identity, gzip;q=0.5", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("gzip;q=bad", False),
        ("notgzip", False),
    ],
)
def test_gzip_is_used_where_it_is_as_welcome_as_nothing(accept_encoding: str, wanted: bool) -> None:
    """Qualities, the wildcard and `identity` count."""
    assert gzip_wanted(accept_encoding) is wanted
