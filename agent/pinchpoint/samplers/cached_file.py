"""A kernel file read again and again through one descriptor."""

from __future__ import annotations

import os
from pathlib import Path

READ_BYTES = 16_384
"""More than any file read here: memory.stat, the longest, has about 3 kB."""


class CachedFile:
    """Opened at the first read, then read with `pread`: 1 to 3 us instead of 14 to 23 us.

    A descriptor of /proc/self belongs to the process that opened it: not for use after a fork.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def read(self) -> str:
        """The file as it is now.

        Raises:
            OSError: it cannot be opened or read; the next call opens it again.
        """
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(self._fd, READ_BYTES, 0).decode("utf-8", "replace")
        except OSError:
            self.close()
            raise

    def read_or_none(self) -> str | None:
        """The file as it is now, or None where it cannot be read."""
        try:
            return self.read()
        except OSError:
            return None

    def close(self) -> None:
        """Release the descriptor; a later read opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()
