"""The text of a file that somebody names: bounded, and never waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

BYTES_MAX = 1 << 16
"""A configuration has some 2 KiB."""


class FileMistake(Exception):
    """A file that cannot be read; the sentence names it."""


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file.

    Raises:
        FileMistake: there is none, or it is too large.
    """
    try:
        # A FIFO without a writer would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = _read(descriptor) if regular else None
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileMistake(
            f"{path} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    if content is None:
        raise FileMistake(f"{path} is not a file: name the configuration file itself")
    if len(content) > BYTES_MAX:
        raise FileMistake(f"{path} is larger than {BYTES_MAX >> 10} KiB: this is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileMistake(f"{path}:{line}: this is not UTF-8: save the file as UTF-8") from error


def _read(descriptor: int) -> bytes:
    """Everything, or more than is allowed."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(BYTES_MAX + 1)
