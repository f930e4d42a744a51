"""The ring directory: made by the first writer, swept of rings whose writers are gone."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from pathlib import Path

DEAD_RING_KEPT_SECONDS = 60.0
"""How long a dead writer's ring stays for the agent to read its last records."""


def prepare_directory(directory: Path) -> None:
    """Make the directory if its parent allows it.

    Raises:
        OSError: it cannot be made, or is not writable.
    """
    directory.mkdir(mode=0o755, parents=False, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(13, "not writable", str(directory))


_OURS = re.compile(r"\d+-[0-9a-f]{12}\.(ring|tmp)")
"""Names that `RingWriter` gives. The directory may hold files that are none of ours."""


def sweep(directory: Path) -> None:
    """Remove the rings of writers that died a while ago. Never raises for a single file."""
    for path in directory.glob("*"):
        try:
            if _OURS.fullmatch(path.name) and _is_old(path.lstat()) and is_dead(path):
                path.unlink()
        except OSError:
            continue


def _is_old(status: os.stat_result) -> bool:
    """A file of this user that nobody has touched for a while; no link to one."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and time.time() - status.st_mtime > DEAD_RING_KEPT_SECONDS
    )


def is_dead(path: Path) -> bool:
    """Whether no process holds the ring's lock. A file that cannot be opened is not dead."""
    try:
        # Non-blocking: opening somebody's FIFO would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
