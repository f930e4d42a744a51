from __future__ import annotations

from pinchpoint.sidecar.folded import FoldedNames


def test_each_kind_is_said_once() -> None:
    """However many records follow."""
    said: list[str] = []
    folded = FoldedNames(said.append)
    folded.look({"methods": 0, "models": 0})
    assert said == []
    for records in range(1, 4):
        folded.look({"methods": records, "models": 0})
    folded.look({"methods": 9, "models": 2})
    assert [line.split()[2] for line in said] == ["methods", "models"]
