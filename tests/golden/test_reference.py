"""Generated pages are as the code says. `pytest --update-golden` rewrites them."""

from __future__ import annotations

import pytest

from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.reference import reference
from tests.support.scripts import ROOT

METRICS = ROOT / "docs" / "reference" / "metrics.md"


def test_the_reference_of_metrics_is_as_the_code_says(pytestconfig: pytest.Config) -> None:
    """A family that is added, renamed or explained better shows in review."""
    if pytestconfig.getoption("--update-golden"):
        METRICS.parent.mkdir(exist_ok=True)
        METRICS.write_text(reference(), "utf-8")
    assert METRICS.read_text("utf-8") == reference()


def test_every_family_is_explained_in_one_sentence_or_two() -> None:
    """Help texts end like sentences; names are snake case and carry their unit last."""
    for family in FAMILIES:
        assert family.help.endswith("."), family.name
        assert family.name.islower(), family.name
        assert not family.name.endswith("_total"), family.name
