"""A process in which no torch model appears."""

from __future__ import annotations


class NoModels:
    """Stands where the recorder has the torch probe."""

    pending = False

    def before_handler(self) -> None:
        """Nothing to pick up."""
