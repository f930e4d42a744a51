"""The `pinchpoint` command."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pinchpoint import __version__
from pinchpoint.commands.agent import AgentCommand
from pinchpoint.commands.check_config import CheckConfigCommand
from pinchpoint.commands.command import Command
from pinchpoint.commands.doctor import DoctorCommand
from pinchpoint.commands.dump import DumpCommand
from pinchpoint.commands.replay import ReplayCommand
from pinchpoint.commands.run import RunCommand
from pinchpoint.commands.say import say
from pinchpoint.errors import PinchpointError, UsageError

COMMANDS: tuple[Command, ...] = (
    RunCommand(),
    AgentCommand(),
    CheckConfigCommand(),
    ReplayCommand(),
    DumpCommand(),
    DoctorCommand(),
)

SEPARATOR = "--"

DESCRIPTION = """\
Names the bottleneck of a Python gRPC or PyTorch inference server while it serves.

  pinchpoint run -- python server.py      your server, observed; metrics on 127.0.0.1:10061
  curl 127.0.0.1:10061/api/v1/verdict     what is in the way, and the evidence
"""

EXIT_CODES = """\
exit codes:
  0  fine      1  see the message     2  wrong usage     3  unreadable recording or ring
  4  unusable ring directory          5  listen address taken, or not ours
  6  wrong configuration, each mistake in a line
"""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line like any other error: one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names come from clients: none may be one that the terminal's encoding cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parsed = _parse(sys.argv[1:] if arguments is None else arguments)
        chosen: Command = parsed.chosen
        code = chosen.run(parsed)
        sys.stdout.flush()
    except PinchpointError as error:
        say(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (`| head`) has what it wanted. Nothing may be flushed later.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What is behind the first `--` is kept as it is: it is somebody else's command line."""
    arguments = list(arguments)
    own, command_line = arguments, None
    if SEPARATOR in arguments:
        end = arguments.index(SEPARATOR)
        own, command_line = arguments[:end], arguments[end + 1 :]
    parsed = _make_parser().parse_args(own)
    if command_line is not None and not isinstance(parsed.chosen, RunCommand):
        raise UsageError(f"`pinchpoint {parsed.chosen.name}` takes no command behind --")
    parsed.command_line = command_line
    return parsed


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pinchpoint",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pinchpoint {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            usage=command.usage,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.configure(subparser)
        subparser.set_defaults(chosen=command)
    return parser
