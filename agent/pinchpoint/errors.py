"""What can go wrong at the command line, and the exit code of each.

    PinchpointError            1   an error of ours without a better code
    ├── UsageError             2   the command line cannot be understood
    ├── UnreadableError        3   a recording or ring cannot be read
    ├── RingDirectoryError     4   the ring directory is missing or not writable
    ├── AddressError           5   the listen address is taken, or not this machine's
    ├── ConfigError            6   the configuration is wrong
    └── CommandError         127   the command to run does not exist (126: not executable)

`pinchpoint run` otherwise exits with its child's code (128 + N if signal N ended it).
Messages are one sentence that says what to do.
"""

from __future__ import annotations


class PinchpointError(Exception):
    """Base of the errors shown to the user without a traceback."""

    exit_code = 1


class UsageError(PinchpointError):
    """The command line cannot be understood."""

    exit_code = 2


class UnreadableError(PinchpointError):
    """A recording or a ring cannot be read."""

    exit_code = 3


class RingDirectoryError(PinchpointError):
    """The ring directory is missing or not writable."""

    exit_code = 4


class AddressError(PinchpointError):
    """The listen address is taken, or not this machine's."""

    exit_code = 5


class ConfigError(PinchpointError):
    """The configuration is wrong: a file, a variable or an option. One line a mistake."""

    exit_code = 6


class CommandError(PinchpointError):
    """The command to run cannot be started."""

    exit_code = 127

    def __init__(self, message: str, exit_code: int = 127) -> None:
        super().__init__(message)
        self.exit_code = exit_code
