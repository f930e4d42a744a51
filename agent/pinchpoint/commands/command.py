"""What a command is to the command line."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """One word after `pinchpoint`. `usage` is the line that its help begins with."""

    name: str
    help: str
    description: str
    usage: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it.

        Returns:
            The exit code.

        Raises:
            PinchpointError: its message is shown and its code is the exit code.
        """
        ...
