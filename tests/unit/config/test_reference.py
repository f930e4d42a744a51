"""The documentation of the configuration is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinchpoint.config.load import load
from pinchpoint.config.model import SETTINGS, Config
from pinchpoint.config.reference import EXAMPLE, PAGE, example, page
from tests.unit.config.sources import Sources

DIRECTORY = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(("name", "text"), [(PAGE, page()), (EXAMPLE, example())])
def test_the_committed_pages_are_in_step(name: str, text: str) -> None:
    """Otherwise: python -m pinchpoint.config.reference docs/reference."""
    assert (DIRECTORY / name).read_text("utf-8") == text


def test_the_example_changes_nothing() -> None:
    """Its values are the defaults."""
    assert load(DIRECTORY / EXAMPLE, {}, {}).config == Config()


def test_the_example_has_every_key(tmp_path: Path) -> None:
    """What is commented out is accepted as well."""
    keys = {setting.key.rpartition(".")[2] for setting in SETTINGS}
    lines = [
        line.replace("# ", "", 1) if line.strip().removeprefix("# ").split(":")[0] in keys else line
        for line in example().splitlines()
    ]
    loaded = Sources(tmp_path).load("\n".join(lines))
    assert {*loaded.origins} == {setting.key for setting in SETTINGS}


def test_the_page_names_every_key_variable_and_flag() -> None:
    text = page()
    for setting in SETTINGS:
        assert f"| `{setting.key}` |" in text
        assert f"`{setting.variable}`" in text
        assert setting.help in text
        assert not setting.flag or f"`{setting.flag}`" in text
