from __future__ import annotations

import pytest

from pinchpoint.adapters.exposition import LINES_MAX, Exposition, ExpositionError, Series, read

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_only_the_names_that_are_asked_for_are_read() -> None:
    text = b'# TYPE a counter\na_total{x="1"} 2\na_total_more 3\nb 4\n'
    assert read(text, "text/plain; version=0.0.4", {"a_total"}).series == [
        Series("a_total", {"x": "1"}, 2.0)
    ]


def test_a_name_may_be_declared_before_it_has_a_series() -> None:
    assert read(b"# TYPE a counter\n", "text/plain", {"a"}) == Exposition([], True)
    assert read(b"# TYPE ab counter\n", "text/plain", {"a"}) == Exposition([], False)


def test_what_nobody_asks_for_may_be_nonsense() -> None:
    assert read(b"b{ 1\n\x0c\na 1\n", "text/plain", {"a"}).series == [Series("a", {}, 1.0)]


def test_labels_may_end_in_a_comma_and_hold_anything() -> None:
    text = b'a{m="x,y} \\"z\\"",n="",} 1\n'
    assert read(text, "text/plain", {"a"}).series == [Series("a", {"m": 'x,y} "z"', "n": ""}, 1.0)]


def test_openmetrics_is_read_with_its_exemplars() -> None:
    text = b'# TYPE a counter\na_total 2 # {trace_id="f"} 1 1700000000.0\n# EOF\n'
    assert read(text, OPENMETRICS, {"a_total"}).series == [Series("a_total", {}, 2.0)]


def test_a_last_line_that_may_be_cut_off_is_left_out() -> None:
    assert read(b"a 10\nb 1", "text/plain", {"a", "b"}).series == [Series("a", {}, 10.0)]


@pytest.mark.parametrize("body", [b"a{ 1\n", b"a one\n"])
def test_what_cannot_be_parsed_is_said(body: bytes) -> None:
    with pytest.raises(ExpositionError, match="cannot be parsed"):
        read(body, "text/plain", {"a"})


@pytest.mark.parametrize(
    ("content_type", "said"),
    [("text/html; charset=utf-8", "answers with text/html"), ("", "answers with an unnamed type")],
)
def test_what_is_not_metrics_is_said(content_type: str, said: str) -> None:
    with pytest.raises(ExpositionError, match=said):
        read(b"<html></html>", content_type, {"a"})


def test_text_that_is_not_utf_8_is_said() -> None:
    with pytest.raises(ExpositionError, match="not UTF-8"):
        read(b'a{m="\xff"} 1\n', "text/plain", {"a"})


@pytest.mark.parametrize("content_type", ["text/plain", OPENMETRICS])
def test_no_more_is_parsed_than_a_server_has_to_say(content_type: str) -> None:
    with pytest.raises(ExpositionError, match="more than 20000 lines"):
        read(b"a 1\n" * (LINES_MAX + 1), content_type, {"a"})


def test_lines_that_nobody_asks_for_do_not_count() -> None:
    text = b"b 1\n" * (LINES_MAX + 1) + b"a 1\n"
    assert read(text, "text/plain", {"a"}).series == [Series("a", {}, 1.0)]
