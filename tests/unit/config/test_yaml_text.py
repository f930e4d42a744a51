"""YAML as nodes: bounded, with lines, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.config.nodes import Fields, Items, Node, Scalar
from pinchpoint.config.yaml_text import DEPTH_MAX, parse_yaml

TOO_LARGE = "this is not YAML (a number or an escape in it is too large)"

Mistakes = list[tuple[int, str]]


def parsed(text: str) -> tuple[Node | None, Mistakes]:
    """The document of a text, and its mistakes."""
    mistakes: Mistakes = []
    node = parse_yaml(text, lambda line, sentence: mistakes.append((line, sentence)))
    return node, mistakes


def test_a_document_is_nodes_with_lines() -> None:
    node, mistakes = parsed("a: 1\nb:\n  - x\n  - ~\n  - '~'\n")
    items = Items(3, (Scalar(3, "x"), Scalar(4, "~", null=True), Scalar(5, "~")))
    assert node == Fields(1, ((Scalar(1, "a"), Scalar(1, "1")), (Scalar(2, "b"), items)))
    assert mistakes == []


def test_no_document_is_nothing() -> None:
    assert parsed("# only a comment\n") == (None, [])


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a is there twice, first in line 1: keep one"),
        ("a: &x 1\nb: *x", 2, "*x refers to another value: write it out"),
        ("a: !!python/object:os.system 1", 1, "the tag "),
        ("a: 1\n---\nb: 2", 2, "a second document begins: write only one"),
        ("? [a]\n: 1", 1, "this key is no name: write KEY: VALUE"),
        ("a: 1\nb: [1, 2", 2, "this is not YAML ("),
        ("a: b: c", 1, "this is not YAML ("),
        ('a: 1\nb: "\\UFFFFFFFF"', 2, TOO_LARGE),
        ('a: 1\nb: "\\U00110000"', 2, TOO_LARGE),
        ("# x\n%YAML 1." + "9" * 5_000 + "\n---\na: 1", 2, TOO_LARGE),
        ('"\\e[2J": 1\n"\\e[2J": 2', 2, "\\x1b[2J is there twice, first in line 1: keep one"),
        ('"\\uD800": 1\n"\\uD800": 2', 2, "\\ud800 is there twice, first in line 1: keep one"),
        ("a: !%1b[2J 1", 1, "the tag !\\x1b[2J is not known: leave it out"),
        ("a: 1\n\tb: 2", 2, "this is not YAML ("),
        ("a: 1\nb: \x07", 2, "the character 0x7 is not allowed: remove it"),
        ("[" * 10_000, 1, "this is nested more than 8 levels deep"),
        ("\n" + "- " * 10_000, 2, "this is nested more than 8 levels deep"),
        ("a:\n" + "".join(f"{'  ' * n}b:\n" for n in range(1, 20)), 8, "this is nested more"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, sentence: str) -> None:
    _, mistakes = parsed(text)
    ((found_line, found),) = mistakes
    assert found.startswith(sentence)
    assert found_line == line


def test_as_deep_as_allowed_is_understood() -> None:
    node, mistakes = parsed("[" * (DEPTH_MAX - 1) + "1" + "]" * (DEPTH_MAX - 1))
    assert isinstance(node, Items)
    assert mistakes == []


def test_what_is_wrong_in_one_place_hides_nothing_in_another() -> None:
    _, mistakes = parsed("a: &x 1\nb: *x\nb: 2\nc: !t 3\n")
    assert [line for line, _ in mistakes] == [2, 3, 4]


def test_aliases_do_not_multiply() -> None:
    """The classic bomb is told, not built."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    _, mistakes = parsed("\n".join(lines))
    assert len(mistakes) == 29 * 9


@given(st.text(st.sampled_from("ab:-[]{},&*!#|>%@'\"\\?~ \t\n\x00\u0085\ud800é1"), max_size=60))
def test_any_text_is_nodes_or_a_mistake(text: str) -> None:
    _, mistakes = parsed(text)
    for line, sentence in mistakes:
        assert 1 <= line <= text.count("\n") + text.count("\x85") + 2
        assert sentence
