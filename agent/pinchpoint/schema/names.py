"""The interned names of every source, as a reader has learnt them."""

from __future__ import annotations

from pinchpoint.schema.observations import Name
from pinchpoint.schema.terms import OTHER


class Names:
    """Resolves `(source, id)` to the text that the source interned."""

    def __init__(self) -> None:
        self._names: dict[int, dict[int, Name]] = {}

    def learn(self, source: int, name: Name) -> None:
        """Remember a name of a source."""
        self._names.setdefault(source, {})[name.name_id] = name

    def forget(self, source: int) -> None:
        """A source is gone for good."""
        self._names.pop(source, None)

    def get(self, source: int, name_id: float | None) -> Name | None:
        """The name, or None if the source has not defined it."""
        if name_id is None:
            return None
        return self._names.get(source, {}).get(int(name_id))

    def text(self, source: int, name_id: float | None) -> str:
        """The name's text; `_OTHER` for id 0 and for an id that is not defined."""
        name = self.get(source, name_id)
        return name.text if name else OTHER
