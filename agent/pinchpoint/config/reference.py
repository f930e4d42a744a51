"""The reference page and the annotated example, made from the settings themselves.

python -m pinchpoint.config.reference docs/reference
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from pinchpoint.config.flags import default_of
from pinchpoint.config.lists import Mappings
from pinchpoint.config.model import FILE_FLAG, FILE_VARIABLE, SETTINGS, Config
from pinchpoint.config.setting import Setting, value_of

PAGE = "configuration.md"
EXAMPLE = "pinchpoint.example.yaml"

_COLUMNS = 96

_PAGE = f"""\
# Configuration of the agent

This page is made from the code (`python -m pinchpoint.config.reference docs/reference`); a test
keeps it in step. [`{EXAMPLE}`]({EXAMPLE}) has every key with its default.

Nothing has to be configured. What is, comes from three sources; each is stronger than the one
before it:

1. a YAML file, named by `{FILE_FLAG}` or `{FILE_VARIABLE}`; paths in it start at its directory;
2. variables of the environment, an empty one counting as not set; lists are written as in YAML;
3. flags of `pinchpoint agent`. `pinchpoint run` takes them too and hands them to its agent, which
   listens on 127.0.0.1 unless told otherwise and finds the rings where `run` puts them.

`pinchpoint check-config FILE` shows every mistake of all sources with its line, or every setting
that is not at its default and where that comes from; its exit code is 0 or 6. `--syntax-only`
opens no other file. An agent with mistakes in its configuration does not start (exit code 6).
Unknown keys are mistakes. An unknown variable is pointed out where it looks like a slip, and is no
mistake: Kubernetes makes variables of its own for a Service whose name begins with `pinchpoint`.

## Reloading

SIGHUP, or `POST /-/reload` where `web.enable_lifecycle` is true, makes the agent read the file
again. Keys marked *reload* below apply at once, the others with the next start; standard error
says which changed and which wait. A file with mistakes changes nothing, and the agent goes on.
`pinchpoint_config_last_reload_successful` and
`pinchpoint_config_last_reload_success_timestamp_seconds` tell how it went. The web configuration
file and its certificates need no reload: changes apply to the next connection.

The probe in the serving process reads environment variables only: `PINCHPOINT_RING_DIR`,
`PINCHPOINT_ENABLE`, `PINCHPOINT_DISABLE` and `PINCHPOINT_DEBUG`.

## Keys
"""

_EXAMPLE = f"""\
# Every key of `pinchpoint agent {FILE_FLAG} FILE` with its default; those without one are commented
# out. To check a file: pinchpoint check-config FILE

"""


def page() -> str:
    """The reference as Markdown."""
    return _PAGE + "".join(_rows())


def example() -> str:
    """Every key in a file that is accepted as it is."""
    return _EXAMPLE + "".join(_example_lines())


def main() -> None:
    """Write both into a directory."""
    directory = Path(sys.argv[1])
    (directory / PAGE).write_text(page(), "utf-8")
    (directory / EXAMPLE).write_text(example(), "utf-8")


def _rows() -> Iterator[str]:
    for section, settings in _sections():
        title = f"`{section}`" if section else "Top level"
        yield f"\n### {title}\n\n"
        if section:
            yield f"{_about(section)}\n\n"
        yield "| key | default | accepts | variable, flag | |\n|---|---|---|---|---|\n"
        for setting in settings:
            names = f"`{setting.variable}`" + (f" `{setting.flag}`" if setting.flag else "")
            default = setting.unset or f"`{default_of(setting)}`"
            note = f"{setting.help} *reload*" if setting.reloadable else setting.help
            yield f"| `{setting.key}` | {default} | {setting.kind.wanted} | {names} | {note} |\n"
        for setting in settings:
            if isinstance(setting.kind, Mappings):
                yield f"\nEach entry of `{setting.key}`:\n\n"
                yield from _part_rows(setting.kind)


def _part_rows(kind: Mappings) -> Iterator[str]:
    yield "| key | default | accepts | |\n|---|---|---|---|\n"
    for part in kind.parts:
        unset = "required" if part.required else "not known"
        default = unset if part.default is None else f"`{part.kind.shown(part.default)}`"
        yield f"| `{part.key}` | {default} | {part.kind.wanted} | {part.help} |\n"


def _example_lines() -> Iterator[str]:
    for section, settings in _sections():
        indent = "  " if section else ""
        if section:
            yield f"\n# {_about(section)}\n{section}:\n"
        for setting in settings:
            off = "# " if setting.unset else ""
            about = f"{setting.help} {setting.kind.wanted[0].upper()}{setting.kind.wanted[1:]}."
            yield from (f"{indent}# {line}\n" for line in wrap(about, _COLUMNS - len(indent)))
            name = setting.key.rpartition(".")[2]
            yield f"{indent}{off}{name}: {setting.example}\n"


def _sections() -> Iterator[tuple[str, list[Setting]]]:
    """The top level first, then each section in its order."""
    names = dict.fromkeys(s.key.rpartition(".")[0] for s in SETTINGS)
    for name in sorted(names, key=bool):
        yield name, [s for s in SETTINGS if s.key.rpartition(".")[0] == name]


def _about(section: str) -> str:
    return str(type(value_of(Config(), section)).__doc__)


if __name__ == "__main__":
    main()
