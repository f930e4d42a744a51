"""The kinds of values that are one text: what is accepted, and what to write instead."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pinchpoint.config.nodes import Node, Scalar
from pinchpoint.config.sentences import number, quoted

Report = Callable[[int, str], None]
"""Takes the line and the sentence of a mistake."""


class Kind(Protocol):
    """What a key accepts."""

    @property
    def wanted(self) -> str:
        """Completes "write …"."""
        ...

    @property
    def plain(self) -> bool:
        """Whether the text of a flag or variable is the value itself, not YAML."""
        ...

    def read(self, node: Node, name: str, report: Report) -> Any:
        """The value of `name`; None if mistakes in it were reported."""
        ...

    def shown(self, value: Any) -> str:
        """The value as it is written in a file."""
        ...


class Text(ABC):
    """A kind that is one text."""

    plain = True

    @property
    @abstractmethod
    def wanted(self) -> str:
        """As in `Kind`."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """The value.

        Raises:
            ValueError: the text is not what is wanted.
        """

    def read(self, node: Node, name: str, report: Report) -> Any:
        """As in `Kind`."""
        if isinstance(node, Scalar) and not node.null:
            try:
                return self.parse(node.text.strip())
            except ValueError:
                pass
        report(node.line, f"{name} is {quoted(node)}: write {self.wanted}")
        return None

    def shown(self, value: Any) -> str:
        """As in `Kind`."""
        return str(value)


@dataclass(frozen=True)
class Count(Text):
    """A whole number."""

    least: int
    most: int

    @property
    def wanted(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, text: str) -> int:
        # int() takes more than digits.
        if not (text.isascii() and text.isdigit() and self.least <= int(text) <= self.most):
            raise ValueError(text)
        return int(text)


@dataclass(frozen=True)
class Seconds(Text):
    """A time."""

    least: float
    most: float

    @property
    def wanted(self) -> str:
        return f"seconds from {number(self.least)} to {number(self.most)}"

    def parse(self, text: str) -> float:
        if not self.least <= float(text) <= self.most:
            raise ValueError(text)
        return float(text)

    def shown(self, value: Any) -> str:
        return number(value)


class Switch(Text):
    """On or off."""

    wanted = "true or false"

    _ON = ("true", "yes", "on", "1")
    _OFF = ("false", "no", "off", "0")

    def parse(self, text: str) -> bool:
        if text.lower() not in self._ON + self._OFF:
            raise ValueError(text)
        return text.lower() in self._ON

    def shown(self, value: Any) -> str:
        return "true" if value else "false"


@dataclass(frozen=True)
class Place(Text):
    """The path of a file or directory."""

    what: str

    @property
    def wanted(self) -> str:
        return f"the path of a {self.what}"

    def parse(self, text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError(text)
        os.fsencode(text)  # raises a ValueError for what no file system can hold
        return Path(text)


class Address(Text):
    """Where to listen."""

    wanted = "HOST:PORT, e.g. 0.0.0.0:10061 or [::]:10061"

    def parse(self, text: str) -> str:
        host, separator, port = text.rpartition(":")
        number = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
        bare = ":" not in host or (host.startswith("[") and host.endswith("]"))
        if not (separator and number and bare):
            raise ValueError(text)
        return text


class Url(Text):
    """What to scrape."""

    wanted = "an address such as http://127.0.0.1:8000/metrics"

    def parse(self, text: str) -> str:
        parts = urlsplit(text)
        spelt = text.isascii() and text.isprintable() and " " not in text
        if not spelt or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(text)
        if parts.port == 0 or parts.username is not None:
            raise ValueError(text)
        return text


@dataclass(frozen=True)
class Choice(Text):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def parse(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(text)
        return text
