"""Runs atheris on one target: `python -m tests.fuzz.fuzz TARGET [libFuzzer's arguments]`.

`scripts/fuzz` makes the environment that it needs.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["pinchpoint"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's own limit."""
    target = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
