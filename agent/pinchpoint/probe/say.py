"""The probe's one way to speak: a sentence on stderr, at start only, never per request."""

from __future__ import annotations

import sys


def say(sentence: str) -> None:
    """Print a sentence. A closed stderr is no reason to fail."""
    try:
        sys.stderr.write(f"pinchpoint: {sentence}\n")
    except (OSError, ValueError, AttributeError):
        pass
