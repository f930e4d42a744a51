"""A file that somebody names: bounded, and never waited for."""

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
    content = read_bytes(path, "configuration", BYTES_MAX)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileMistake(f"{path}:{line}: this is not UTF-8: save the file as UTF-8") from error


def read_bytes(path: Path, what: str, bytes_max: int) -> bytes:
    """The content of a regular file.

    Args:
        path: where it is.
        what: what it should be, for the sentence.
        bytes_max: how large it may be.

    Raises:
        FileMistake: there is none, or it is too large.
    """
    try:
        # A FIFO without a writer would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = _read(descriptor, bytes_max + 1) if regular else None
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileMistake(
            f"{path} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    if content is None:
        raise FileMistake(f"{path} is not a file: name the {what} file itself")
    if len(content) > bytes_max:
        raise FileMistake(f"{path} is larger than {bytes_max >> 10} KiB: this is no {what}")
    return content


def _read(descriptor: int, bytes_max: int) -> bytes:
    """Everything, or as much as is allowed."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(bytes_max)
