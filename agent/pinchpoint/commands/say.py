"""What Pinchpoint has to say, on standard error."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print lines, each marked as ours: standard error is shared with the user's server."""
    try:
        for line in text.splitlines():
            print(f"pinchpoint: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Nobody is there to read it, which ends neither the agent nor the user's command.
        pass
