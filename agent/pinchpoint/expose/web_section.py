"""A mapping of the web configuration, read key by key; mistakes are collected with their lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pinchpoint.config.kinds import Report
from pinchpoint.config.nodes import Fields, Items, Node, Scalar
from pinchpoint.config.sentences import clean, quoted, unknown

T = TypeVar("T")

_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Section:
    """One mapping. A key that nobody has asked for by `finish` is a mistake.

    Args:
        name: the keys that lead here, joined by dots; empty for the file itself.
        node: None where it is not written.
        report: told of every mistake.
    """

    def __init__(self, name: str, node: Node | None, report: Report) -> None:
        self._prefix = f"{name}." if name else ""
        self._line = node.line if node is not None else 1
        self._report = report
        self._fields = node.fields if isinstance(node, Fields) else ()
        self._asked: list[str] = []
        self._sections: list[Section] = []
        if node is not None and not (isinstance(node, Fields) or _is_null(node)):
            report(self._line, f"{name or 'the file'} is {quoted(node)}: write a mapping")

    def __bool__(self) -> bool:
        return bool(self._fields)

    @property
    def keys(self) -> Sequence[str]:
        """Its keys, in the file's order."""
        return tuple(key.text for key, _ in self._fields)

    def section(self, key: str) -> Section:
        """The mapping at a key."""
        section = Section(self._prefix + key, self._value(key), self._report)
        self._sections.append(section)
        return section

    def text(self, key: str) -> str:
        """The text at a key; empty if there is none."""
        node = self._value(key)
        if isinstance(node, Scalar):
            return "" if node.null else self._printable(key, node.text)
        if node is not None:
            self.wrong(key, f"is {quoted(node)}: write a text")
        return ""

    def texts(self, key: str) -> Sequence[str]:
        """The list of texts at a key."""
        node = self._value(key)
        if isinstance(node, Items):
            texts = [item.text for item in node.items if isinstance(item, Scalar)]
            if len(texts) == len(node.items):
                return [self._printable(key, text) for text in texts]
        if not _is_null(node):
            self.wrong(key, "is no list of texts: write [ONE, TWO]")
        return ()

    def truth(self, key: str, default: bool) -> bool:
        """The truth value at a key."""
        text = self.text(key).lower()
        if text and text not in _TRUTH:
            self.wrong(key, f'is "{clean(text)}": write true or false')
        return _TRUTH.get(text, default)

    def choice(self, key: str, values: Mapping[str, T], default: str) -> T:
        """What the text at a key stands for."""
        text = self.text(key) or default
        if text not in values:
            self.wrong(key, f'is "{clean(text)}": write one of {", ".join(values)}')
        return values.get(text, values[default])

    def wrong(self, key: str, mistake: str) -> None:
        """Report a mistake in the value of a key."""
        lines = [name.line for name, _ in self._fields if name.text == key]
        self._report(lines[0] if lines else self._line, f"{clean(self._prefix + key)} {mistake}")

    def finish(self) -> None:
        """Report the keys, here and in all sections, that nobody knows."""
        for key, _ in self._fields:
            if key.text not in self._asked:
                self._report(key.line, unknown(self._prefix, key.text, self._asked))
        for section in self._sections:
            section.finish()

    def _printable(self, key: str, text: str) -> str:
        """What is in no path, name or header is not shown either: it may be of a password."""
        if text.isprintable():
            return text
        self.wrong(key, "has characters that cannot be printed: remove them")
        return ""

    def _value(self, key: str) -> Node | None:
        self._asked.append(key)
        return next((node for name, node in self._fields if name.text == key), None)


def _is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.null)
