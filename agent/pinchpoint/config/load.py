"""File, environment and flags, in rising strength, as one configuration or all their mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import itemgetter
from pathlib import Path
from typing import Any

from pinchpoint.config.kinds import Report
from pinchpoint.config.model import FILE_VARIABLE, SETTINGS, Config
from pinchpoint.config.nodes import Fields, Node, Scalar
from pinchpoint.config.sentences import quoted, unknown
from pinchpoint.config.setting import PREFIX, Setting, with_values
from pinchpoint.config.text_file import FileMistake, read_text
from pinchpoint.config.yaml_text import parse_yaml
from pinchpoint.errors import ConfigError

OTHER_VARIABLES = (FILE_VARIABLE, *(PREFIX + name for name in ("DEBUG", "DISABLE", "ENABLE")))
"""Those with our prefix that are no settings: all but the first are the probe's."""

NEAR = 0.85
"""How like a known variable an unknown one must be to be worth a line. Kubernetes makes variables
for every Service, so one named `pinchpoint` gives some with our prefix."""

MISTAKES_MAX = 50
"""How many are told at once."""

_BY_KEY = {setting.key: setting for setting in SETTINGS}
_TOP = tuple(dict.fromkeys(key.partition(".")[0] for key in _BY_KEY))
_SECTIONS = tuple(name for name in _TOP if name not in _BY_KEY)


@dataclass(frozen=True)
class Loaded:
    """A configuration, and where it comes from.

    Attributes:
        config: the settings.
        origins: by key, where it was set: `FILE:LINE`, a variable or a flag.
        notes: sentences about what looks like a slip but is no mistake.
    """

    config: Config
    origins: Mapping[str, str]
    notes: tuple[str, ...]


def load(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
    base: Config | None = None,
) -> Loaded:
    """The configuration that these sources make together.

    Args:
        file: YAML; None for none.
        environment: variables, others among them. An empty one counts as not set.
        flags: texts by key.
        base: what holds where no source says anything.

    Raises:
        ConfigError: one line for each mistake in any source.
    """
    loading = _Loading()
    if file is not None:
        loading.file(file)
    for setting in SETTINGS:
        loading.text(setting, setting.variable, environment.get(setting.variable, ""))
    for key, text in flags.items():
        loading.text(_BY_KEY[key], _BY_KEY[key].flag, text)
    if loading.mistakes:
        raise ConfigError("\n".join(_bounded(loading.mistakes)))
    config = with_values(base or Config(), loading.values)
    return Loaded(config, loading.origins, tuple(_slips(environment)))


class _Loading:
    """What has been understood so far; a stronger source comes later."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def file(self, path: Path) -> None:
        """Everything in a file. Relative paths in it start at its directory."""
        mistakes: list[tuple[int, str]] = []

        def report(line: int, sentence: str) -> None:
            mistakes.append((line, sentence))

        try:
            text = read_text(path)
        except FileMistake as mistake:
            self.mistakes.append(str(mistake))
            return
        for key, value in _leaves(parse_yaml(text, report), report):
            self._set(key, value, key, f"{path}:{value.line}", report)
            if isinstance(self.values.get(key), Path):
                self.values[key] = path.parent / self.values[key]
        mistakes.sort(key=itemgetter(0))
        self.mistakes += (f"{path}:{line}: {sentence}" for line, sentence in mistakes)

    def text(self, setting: Setting, name: str, text: str) -> None:
        """One variable or flag; an empty text says nothing."""
        if not text:
            return

        def report(_line: int, sentence: str) -> None:
            self.mistakes.append(sentence if sentence.startswith(name) else f"{name}: {sentence}")

        node = Scalar(1, text) if setting.kind.plain else parse_yaml(text, report)
        if node is not None:
            self._set(setting.key, node, name, name, report)

    def _set(self, key: str, node: Node, name: str, origin: str, report: Report) -> None:
        value = _BY_KEY[key].kind.read(node, name, report)
        if value is not None:
            self.values[key] = value
            self.origins[key] = origin


def _leaves(root: Node | None, report: Report) -> Iterator[tuple[str, Node]]:
    """The settings that a document makes; everything else in it is a mistake."""
    for key, value in _fields(root, "the file", _TOP, report):
        if key.text in _SECTIONS:
            inside = _inside(f"{key.text}.")
            for inner, inner_value in _fields(value, key.text, inside, report):
                yield from _leaf(f"{key.text}.", inner, inner_value, inside, report)
        else:
            yield from _leaf("", key, value, _TOP, report)


def _inside(prefix: str) -> tuple[str, ...]:
    return tuple(key.removeprefix(prefix) for key in _BY_KEY if key.startswith(prefix))


def _fields(
    node: Node | None, name: str, keys: Iterable[str], report: Report
) -> Iterable[tuple[Scalar, Node]]:
    if isinstance(node, Fields):
        return node.fields
    if node is not None and not _is_null(node):
        report(node.line, f"{name} is {quoted(node)}: write a mapping of {', '.join(keys)}")
    return ()


def _leaf(
    prefix: str, key: Scalar, value: Node, siblings: Sequence[str], report: Report
) -> Iterator[tuple[str, Node]]:
    if prefix + key.text not in _BY_KEY:
        report(key.line, unknown(prefix, key.text, siblings, _BY_KEY))
    elif not _is_null(value):
        yield prefix + key.text, value


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.null


def _slips(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables that were probably meant for us."""
    known = {setting.variable for setting in SETTINGS} | set(OTHER_VARIABLES)
    names = [name.removeprefix(PREFIX) for name in sorted(known)]
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and variable not in known:
            near = get_close_matches(variable.removeprefix(PREFIX), names, n=1, cutoff=NEAR)
            if near:
                yield f"the variable {variable} is not read: did you mean {PREFIX}{near[0]}?"


def _bounded(mistakes: list[str]) -> list[str]:
    more = len(mistakes) - MISTAKES_MAX
    return mistakes if more <= 0 else [*mistakes[:MISTAKES_MAX], f"and {more} more mistakes"]
