"""Says once of each kind of name that there are too many to keep apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class FoldedNames:
    """Remembers of which kinds it has spoken.

    Args:
        say: takes one line for the operator.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def look(self, folded: Mapping[str, int]) -> None:
        """By kind, how many records were folded so far."""
        for kind, records in folded.items():
            if records and kind not in self._said:
                self._said.add(kind)
                self._say(
                    f"too many {kind} to give each its own series: from now on new ones count as "
                    f"_OTHER (pinchpoint_names_folded_total); limits.{kind} and limits.series set "
                    "how many there may be"
                )
