"""What a source says before it is understood: texts, lists and mappings, with their lines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scalar:
    """One text. `null` when nothing was written (`key:`, `~`, `null`)."""

    line: int
    text: str
    null: bool = False


@dataclass(frozen=True)
class Items:
    """A list."""

    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Fields:
    """A mapping; each key is written once."""

    line: int
    fields: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Items | Fields
