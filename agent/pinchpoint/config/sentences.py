"""How mistakes are worded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches

from pinchpoint.config.nodes import Items, Node, Scalar

SHOWN_CHARACTERS = 60

NEAR = 0.75
"""How like a known name (difflib's ratio) an unknown one must be to be taken for a slip."""


def unknown(prefix: str, key: str, siblings: Sequence[str], others: Iterable[str] = ()) -> str:
    """About a key that does not exist: the nearest one that does, or those beside it.

    Args:
        prefix: what the key stands in, with its dot.
        key: what was written.
        siblings: the keys that may stand there.
        others: names with their prefixes, for a key in the wrong place.
    """
    near = [prefix + name for name in get_close_matches(key, siblings, n=1, cutoff=NEAR)]
    near = near or get_close_matches(prefix + key, list(others), n=1, cutoff=NEAR)
    advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(siblings)}"
    return f"{clean(prefix + key)} does not exist: {advice}"


def number(value: float) -> str:
    """Without an exponent, and without digits that say nothing."""
    return format(Decimal(repr(float(value))).normalize(), "f")


def quoted(node: Node) -> str:
    """What was written."""
    if isinstance(node, Scalar):
        return "empty" if node.null or not node.text else f'"{clean(node.text)}"'
    return "a list" if isinstance(node, Items) else "a mapping"


def clean(text: str) -> str:
    """What somebody wrote, fit for one line of a terminal."""
    shown = text if text.isprintable() else text.encode("unicode_escape").decode()
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}…"
