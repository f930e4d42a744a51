"""The kinds of values that are lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinchpoint.config.kinds import Kind, Report, Seconds
from pinchpoint.config.nodes import Fields, Items, Node, Scalar
from pinchpoint.config.sentences import number, quoted, unknown


class _List(ABC):
    """A bounded list."""

    plain = False
    least = 0
    most: int

    @property
    @abstractmethod
    def wanted(self) -> str:
        """As in `Kind`."""

    def read(self, node: Node, name: str, report: Report) -> tuple[Any, ...] | None:
        """As in `Kind`."""
        if not isinstance(node, Items):
            report(node.line, f"{name} is {quoted(node)}: write {self.wanted}")
            return None
        if not self.least <= len(node.items) <= self.most:
            report(node.line, f"{name} has {len(node.items)} items: write {self.wanted}")
            return None
        items = [
            self.item(item, f"{name}[{place}]", report) for place, item in enumerate(node.items)
        ]
        if None in items or not self.whole(items, node, name, report):
            return None
        return tuple(items)

    def shown(self, value: Sequence[Any]) -> str:
        """As in `Kind`."""
        return f"[{', '.join(self.shown_item(item) for item in value)}]"

    @abstractmethod
    def item(self, node: Node, name: str, report: Report) -> Any:
        """One item; None if mistakes in it were reported."""

    def whole(self, items: Sequence[Any], node: Items, name: str, report: Report) -> bool:
        """Whether the items go together; what does not is reported."""
        return True

    @abstractmethod
    def shown_item(self, item: Any) -> str:
        """One item as it is written in a file."""


@dataclass(frozen=True)
class Bounds(_List):
    """The upper bounds of a histogram's buckets."""

    most: int
    seconds: Seconds
    least = 1

    @property
    def wanted(self) -> str:
        return f"a list of {self.least} to {self.most} rising {self.seconds.wanted}"

    def item(self, node: Node, name: str, report: Report) -> Any:
        return self.seconds.read(node, name, report)

    def whole(self, items: Sequence[Any], node: Items, name: str, report: Report) -> bool:
        for place in range(1, len(items)):
            if items[place] <= items[place - 1]:
                report(
                    node.items[place].line,
                    f"{name}[{place}] is {number(items[place])} and follows "
                    f"{number(items[place - 1])}: write the bounds in rising order",
                )
                return False
        return True

    def shown_item(self, item: Any) -> str:
        return self.seconds.shown(item)


@dataclass(frozen=True)
class Part:
    """One key of a mapping in a list. The default may be None: not known, which is not 0."""

    key: str
    kind: Kind
    help: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True)
class Mappings(_List):
    """A list of mappings, each made into a value.

    Args:
        what: what they are.
        most: how many at most.
        parts: their keys.
        make: takes the keys' values by name.
        unique: a key that no two of them may have the same value of.
    """

    what: str
    most: int
    parts: tuple[Part, ...]
    make: Callable[..., Any]
    unique: str

    @property
    def wanted(self) -> str:
        keys = ", ".join(part.key for part in self.parts)
        return f"a list of at most {self.most} {self.what} with the keys {keys}"

    def item(self, node: Node, name: str, report: Report) -> Any:
        if not isinstance(node, Fields):
            keys = ", ".join(part.key for part in self.parts)
            report(node.line, f"{name} is {quoted(node)}: write a mapping with the keys {keys}")
            return None
        written = self._written(node, name, report)
        values = self._values(written, node.line, name, report)
        if len(values) < len(self.parts) or len(written) < len(node.fields):
            return None
        return self.make(**values)

    def whole(self, items: Sequence[Any], node: Items, name: str, report: Report) -> bool:
        values = [getattr(item, self.unique) for item in items]
        for place, value in enumerate(values):
            first = values.index(value)
            if first < place:
                report(
                    node.items[place].line,
                    f"{name}[{place}].{self.unique} is that of {name}[{first}]: "
                    "list each of them once",
                )
                return False
        return True

    def shown_item(self, item: Any) -> str:
        values = ((part, getattr(item, part.key)) for part in self.parts)
        texts = (f"{p.key}: {p.kind.shown(value)}" for p, value in values if value is not None)
        return f"{{{', '.join(texts)}}}"

    def _written(self, node: Fields, name: str, report: Report) -> Mapping[str, Node]:
        """What was written under known keys."""
        keys = [part.key for part in self.parts]
        written = {}
        for key, value in node.fields:
            if key.text in keys:
                written[key.text] = value
            else:
                report(key.line, unknown(f"{name}.", key.text, keys))
        return written

    def _values(
        self, written: Mapping[str, Node], line: int, name: str, report: Report
    ) -> Mapping[str, Any]:
        """The values of the keys that are right."""
        values = {}
        for part in self.parts:
            node = written.get(part.key, Scalar(line, "", null=True))
            if not (isinstance(node, Scalar) and node.null):
                value = part.kind.read(node, f"{name}.{part.key}", report)
                if value is not None:
                    values[part.key] = value
            elif part.required:
                report(node.line, f"{name}.{part.key} is missing: write {part.kind.wanted}")
            else:
                values[part.key] = part.default
        return values
