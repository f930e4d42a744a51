"""The ring directory: made by the first writer, swept of rings whose writers are gone."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from pinchpoint.ring.layout import SUFFIX

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


def sweep(directory: Path) -> None:
    """Remove the rings of writers that died a while ago. Never raises for a single file."""
    for path in [*directory.glob(f"*{SUFFIX}"), *directory.glob("*.tmp")]:
        try:
            if time.time() - path.stat().st_mtime > DEAD_RING_KEPT_SECONDS and is_dead(path):
                path.unlink()
        except OSError:
            continue


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
