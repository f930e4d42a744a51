"""/proc/self/mountinfo as data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mounted file system; `root` is the part of it that is seen at `point`."""

    mount_id: int
    root: str
    point: str
    kind: str
    options: frozenset[str]


def parse_mounts(text: str) -> Iterator[Mount]:
    """The mounts of a mountinfo file; lines of another shape are left out."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not separator or len(left) < 5 or len(right) < 3 or not left[0].isdecimal():
            continue
        yield Mount(
            int(left[0]),
            _unescape(left[3]),
            _unescape(left[4]),
            right[0],
            frozenset(right[2].split(",")),
        )


def _unescape(path: str) -> str:
    """Spaces, tabs, newlines and backslashes are written in octal: proc_pid_mountinfo(5)."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), path)
