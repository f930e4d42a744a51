"""Every setting has its names, and the defaults are those of the code that they configure."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from pinchpoint.adapters.kinds import KINDS
from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.config.model import (
    ADAPTER_KINDS,
    ADAPTERS,
    FILE_FLAG,
    FILE_VARIABLE,
    SETTINGS,
    Config,
)
from pinchpoint.config.setting import Setting, value_of, with_values
from pinchpoint.pipeline.caps import Caps
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.probe.activate import DEFAULT_RING_DIR
from tests.unit.config.sources import Sources


def test_the_default_configures_nothing() -> None:
    config = Config()
    assert config.pipeline == PipelineOptions()
    assert config.ring_directory == Path(DEFAULT_RING_DIR)
    assert config.web.listen_address == "0.0.0.0:10061"
    assert config.recording_file is None
    assert config.adapters == ()


def test_every_cap_is_a_limit() -> None:
    assert {*vars(Config().limits)} == {*vars(Caps())}


def test_every_adapter_can_be_configured() -> None:
    assert ADAPTER_KINDS == KINDS


def test_every_attribute_of_an_adapters_target_is_a_key() -> None:
    assert [part.key for part in ADAPTERS.parts] == [field.name for field in fields(AdapterTarget)]
    for part, field in zip(ADAPTERS.parts, fields(AdapterTarget), strict=True):
        assert part.required == (field.default is MISSING)
        assert part.required or part.default == field.default


def test_keys_variables_and_flags_are_each_ones_own() -> None:
    for names in (
        [setting.key for setting in SETTINGS],
        [FILE_VARIABLE, *(setting.variable for setting in SETTINGS)],
        [FILE_FLAG, *(setting.flag for setting in SETTINGS if setting.flag)],
    ):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_a_setting_is_complete(setting: Setting) -> None:
    assert re.fullmatch(r"([a-z]+\.)?[a-z_]+", setting.key)
    assert re.fullmatch(r"PINCHPOINT_[A-Z_]+", setting.variable)
    assert re.fullmatch(r"(--[a-z.-]+)?", setting.flag)
    assert setting.help.endswith(".")
    assert (setting.default in (None, ())) == bool(setting.unset)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_an_example_is_accepted_from_the_file_and_from_its_variable(
    setting: Setting, tmp_path: Path
) -> None:
    sources = Sources(tmp_path)
    section, _, name = setting.key.rpartition(".")
    text = f"{name}: {setting.example}\n"
    of_file = sources.load(f"{section}:\n  {text}" if section else text)
    of_variable = sources.load(environment={setting.variable: setting.example})
    assert list(of_file.origins) == list(of_variable.origins) == [setting.key]
    assert value_of(of_file.config, setting.key) == value_of(of_variable.config, setting.key)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_a_value_is_shown_as_it_is_written(setting: Setting, tmp_path: Path) -> None:
    sources = Sources(tmp_path)
    value = value_of(
        sources.load(environment={setting.variable: setting.example}).config, setting.key
    )
    shown = setting.kind.shown(value)
    again = sources.load(environment={setting.variable: shown}).config
    assert value_of(again, setting.key) == value


def test_values_are_changed_by_key_and_nothing_else_is() -> None:
    config = with_values(Config(), {"limits.methods": 3, "ring_directory": Path("/x")})
    assert (config.limits.methods, config.ring_directory) == (3, Path("/x"))
    back = with_values(config, {"limits.methods": 64, "ring_directory": Path(DEFAULT_RING_DIR)})
    assert back == Config()
