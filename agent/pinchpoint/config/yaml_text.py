"""YAML text as nodes with lines.

Built from the parser's events, which bounds it: no aliases (they can multiply), no tags (they can
construct), a depth, and a key at most once.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from pinchpoint.config.kinds import Report
from pinchpoint.config.nodes import Fields, Items, Node, Scalar
from pinchpoint.config.sentences import clean

DEPTH_MAX = 8
"""The configuration needs four levels."""

_NULLS = ("", "~", "null", "Null", "NULL")


def parse_yaml(text: str, report: Report) -> Node | None:
    """The one document in a text; None if there is none or it is not understood.

    Args:
        text: of a bounded length.
        report: told of every mistake; the line counts from 1.
    """
    try:
        return _Builder(_events(text), report).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.problem, error.context) if part)
        report(mark.line + 1 if mark else 1, f"this is not YAML ({reason})")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report(line, f"the character {error.character:#x} is not allowed: remove it")
    except _UnreadableError as error:
        report(*error.args)
    return None


class _UnreadableError(Exception):
    """A line and a sentence about it."""


def _events(text: str) -> Iterator[yaml.Event]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except (OverflowError, ValueError) as error:  # of Python, for what the parser believes
        sentence = "this is not YAML (a number or an escape in it is too large)"
        raise _UnreadableError(loader.line + 1, sentence) from error


class _Builder:
    def __init__(self, events: Iterator[yaml.Event], report: Report) -> None:
        self._events = events
        self._report = report

    def document(self) -> Node | None:
        root = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._report(_line(event), "a second document begins: write only one")
                    return root
                root = self._node(next(self._events), 1)
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if depth > DEPTH_MAX:
            raise _UnreadableError(
                line, f"this is nested more than {DEPTH_MAX} levels deep: no key is"
            )
        if isinstance(event, yaml.AliasEvent):
            self._report(line, f"*{event.anchor} refers to another value: write it out")
            return Scalar(line, "", null=True)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._report(line, f"the tag {clean(tag)} is not known: leave it out")
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(line, event.value, null=event.implicit[0] and event.value in _NULLS)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(line, tuple(self._items(depth)))
        return Fields(line, tuple(self._fields(depth)))

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _fields(self, depth: int) -> Iterator[tuple[Scalar, Node]]:
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self._report(key.line, "this key is no name: write KEY: VALUE")
            elif key.text in lines:
                first = lines[key.text]
                twice = f"{clean(key.text)} is there twice, first in line {first}: keep one"
                self._report(key.line, twice)
            else:
                lines[key.text] = key.line
                yield key, value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
