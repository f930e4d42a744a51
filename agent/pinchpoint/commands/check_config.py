"""`pinchpoint check-config`: what the agent would say of a configuration, before it runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pinchpoint.commands.agent import missing_extra
from pinchpoint.commands.say import say
from pinchpoint.config.model import SETTINGS
from pinchpoint.config.setting import value_of
from pinchpoint.errors import ConfigError


class CheckConfigCommand:
    """Reads what the agent would read here, and serves nothing."""

    name = "check-config"
    help = "check the agent's configuration, and show what it changes"
    usage = "pinchpoint check-config [--web.config.file FILE] [--syntax-only] FILE"
    description = """\
Checks a configuration file of `pinchpoint agent`, together with the PINCHPOINT_ variables of this
environment and the web configuration file, and shows every setting that is not at its default and
where it comes from. Every mistake is shown, with its line; the exit code is then 6.
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("file", metavar="FILE", type=Path, help="the configuration, YAML")
        parser.add_argument(
            "--web.config.file",
            dest="web_config_file",
            metavar="FILE",
            help="the web configuration (default: the one that the configuration names)",
        )
        parser.add_argument(
            "--syntax-only",
            action="store_true",
            help="open no other file: neither the web configuration nor its certificates",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Check, and show."""
        try:
            from pinchpoint.config.load import load
            from pinchpoint.expose.web_file import WebFile
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        web = arguments.web_config_file
        mistakes = []
        loaded = None
        try:
            loaded = load(arguments.file, os.environ, {"web.config_file": web} if web else {})
            web = loaded.config.web.config_file
        except ConfigError as error:
            mistakes.append(str(error))
        if web and not arguments.syntax_only:
            try:
                WebFile(Path(web), say)
            except ConfigError as error:
                mistakes.append(str(error))
        if loaded is None or mistakes:
            raise ConfigError("\n".join(mistakes))
        for note in loaded.notes:
            say(note)
        print(f"{arguments.file} is fine")
        for setting in SETTINGS:
            value = value_of(loaded.config, setting.key)
            if value != setting.default:
                text = f"{setting.key}: {setting.kind.shown(value)}"
                print(f"  {text}  ({loaded.origins[setting.key]})")
        return 0
