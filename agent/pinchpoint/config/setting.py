"""A setting: one key of the configuration, wherever it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from pinchpoint.config.kinds import Kind

PREFIX = "PINCHPOINT_"

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class Setting:
    """One key. `key` is its path in the file, with dots.

    Attributes:
        kind: what it accepts.
        help: a sentence for the reference and `--help`.
        default: None where there is none; `unset` then says what happens.
        example: as it is written in a file.
        flag: of `pinchpoint agent`, "" for none.
        reloadable: whether a reload applies it; otherwise the next start does.
        variable: of the environment.
    """

    key: str
    kind: Kind
    help: str
    default: Any
    example: str
    unset: str
    flag: str
    reloadable: bool
    variable: str


def setting(
    kind: Kind,
    help: str,
    *,
    example: str = "",
    unset: str = "",
    flag: str = "",
    reloadable: bool = False,
    variable: str = "",
) -> Mapping[str, Any]:
    """The metadata of a field that is a setting. Without an `example` the default is one."""
    return {
        "kind": kind,
        "help": help,
        "example": example,
        "unset": unset,
        "flag": flag,
        "reloadable": reloadable,
        "variable": variable,
    }


def settings_of(config: Any, section: str = "") -> Iterator[Setting]:
    """Every setting of a configuration, sections flattened; values become defaults."""
    for member in fields(config):
        key = f"{section}{member.name}"
        value = getattr(config, member.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{key}.")
            continue
        spec = dict(member.metadata)
        spec["variable"] = spec["variable"] or PREFIX + key.upper().replace(".", "_")
        spec["example"] = spec["example"] or spec["kind"].shown(value)
        yield Setting(key=key, default=value, **spec)


def value_of(config: Any, key: str) -> Any:
    """The value of a setting."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def with_values(config: ConfigT, values: Mapping[str, Any], section: str = "") -> ConfigT:
    """The configuration with some settings changed."""
    changes: dict[str, Any] = {}
    for member in fields(config):  # type: ignore[arg-type]
        key = f"{section}{member.name}"
        now = getattr(config, member.name)
        if is_dataclass(now):
            changes[member.name] = with_values(now, values, f"{key}.")
        elif key in values:
            changes[member.name] = values[key]
    return replace(config, **changes)  # type: ignore[type-var]
