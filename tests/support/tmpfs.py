"""A file system without room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tiny_tmpfs(directory: Path, options: str = "size=64k") -> Iterator[Path]:
    """64 KiB of memory mounted on a directory, or what the options of `mount` say. Skips where
    mounting is not permitted."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        reason = f"mounting a small tmpfs is not permitted: {mounted.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield directory
    finally:
        # Lazily: a ring of this process may still be mapped.
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
