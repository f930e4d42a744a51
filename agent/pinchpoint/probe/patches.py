"""Attributes of other people's modules and classes that the probe has replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """Replaces attributes and puts them back, the last first."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Set an attribute of a module or class.

        Raises:
            AttributeError: there is nothing to replace.
        """
        original = getattr(owner, name)
        own = name in vars(owner)
        setattr(owner, name, replacement)

        def undo() -> None:
            # Somebody who replaced it after us wraps ours, which passes everything through.
            if vars(owner).get(name) is replacement:
                setattr(owner, name, original) if own else delattr(owner, name)

        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
