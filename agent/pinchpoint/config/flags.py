"""The settings that have a flag, at the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from pinchpoint.config.kinds import Address, Place, Switch
from pinchpoint.config.model import FILE_FLAG, FILE_VARIABLE, SETTINGS
from pinchpoint.config.setting import Setting

FILE = "config_file"
"""Where the parsed arguments keep the configuration file."""

FLAGGED = tuple(setting for setting in SETTINGS if setting.flag)


def add_flags(parser: argparse.ArgumentParser, defaults: Mapping[str, str]) -> None:
    """Add a flag for each setting that has one, and that of the file.

    Args:
        parser: takes them as texts, None where they were not given.
        defaults: by key, what the help says of a default that is not the setting's own.
    """
    parser.add_argument(
        FILE_FLAG,
        dest=FILE,
        metavar="FILE",
        help=f"the configuration, YAML; variables and flags are stronger (${FILE_VARIABLE})",
    )
    for setting in FLAGGED:
        default = defaults.get(setting.key) or default_of(setting)
        switch = {"nargs": "?", "const": "true"} if isinstance(setting.kind, Switch) else {}
        parser.add_argument(
            setting.flag,
            dest=setting.key,
            metavar=_metavar(setting),
            help=f"{_lower(setting.help)} (default: {default})".replace("%", "%%"),
            **switch,  # type: ignore[arg-type]
        )


def given_flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The texts of the flags that were given, by key."""
    values = vars(arguments)
    return {s.key: values[s.key] for s in FLAGGED if values[s.key] is not None}


def default_of(setting: Setting) -> str:
    """The default as it is written in a file, or what its absence means."""
    return setting.unset or setting.kind.shown(setting.default)


def _metavar(setting: Setting) -> str:
    if isinstance(setting.kind, Switch):
        return "true|false"
    if isinstance(setting.kind, Address):
        return "HOST:PORT"
    assert isinstance(setting.kind, Place)
    return "DIR" if setting.kind.what == "directory" else "FILE"


def _lower(sentence: str) -> str:
    """As argparse writes its own help."""
    start = sentence if sentence[1].isupper() else sentence[0].lower() + sentence[1:]
    return start.rstrip(".")
