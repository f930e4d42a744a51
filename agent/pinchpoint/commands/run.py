"""`pinchpoint run`: a command with the probe in it and the agent beside it."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pinchpoint.commands.agent import COMPANION_ADDRESS, default_ring_directory
from pinchpoint.commands.children import Children, shell_code
from pinchpoint.commands.companion import Companion
from pinchpoint.config.flags import FILE, FLAGGED, add_flags, given_flags
from pinchpoint.config.model import FILE_FLAG
from pinchpoint.errors import CommandError, RingDirectoryError, UsageError
from pinchpoint.probe.activate import RING_DIR

SHARED_MEMORY = Path("/dev/shm")
RINGS = "ring_directory"
PRIVATE = "a private one, removed at the end; with --no-agent that of `pinchpoint agent`"
INJECT = Path(__file__).resolve().parent.parent / "inject"


class RunCommand:
    """The command's exit code is ours, its streams and signals are its own."""

    name = "run"
    help = "run a server with the probe in it, and the agent beside it"
    usage = "pinchpoint run [OPTION ...] [--no-agent] -- COMMAND [ARGUMENT ...]"
    description = """\
Runs COMMAND with the probe in every Python process that it starts, and the agent beside it until
it ends. Nothing of the server has to be changed:

  pinchpoint run -- python server.py
  pinchpoint run --no-agent -- python server.py     in a pod whose sidecar is the agent

The probe gets in through PYTHONPATH: `python -I` and `python -E` ignore that; such servers call
pinchpoint.install() themselves. Signals are passed on, and the exit code is the command's own
(128 + N if signal N ended it, 127 if it was not found, 126 if it cannot be executed).
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_flags(parser, {"web.listen_address": COMPANION_ADDRESS, RINGS: PRIVATE})
        parser.add_argument(
            "--no-agent", action="store_true", help="start no agent: a sidecar reads the rings"
        )
        # Only to say what is missing: what is behind -- is not parsed here.
        parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command to its end."""
        command_line: Sequence[str] | None = arguments.command_line
        if arguments.rest or not command_line:
            raise UsageError("write -- and the command last: pinchpoint run -- python server.py")
        options = _agent_options(arguments)
        if arguments.no_agent and options:
            names = ", ".join(option.partition("=")[0] for option in options)
            raise UsageError(
                f"these options are the agent's: {names}; give them to the sidecar, or leave out "
                "--no-agent"
            )
        children = Children()
        with _ring_directory(arguments) as ring_directory:
            if arguments.no_agent:
                return _run(children, command_line, ring_directory, None)
            companion = Companion(children, [*options, f"--ring-dir={ring_directory}"])
            try:
                return _run(children, command_line, ring_directory, companion)
            finally:
                companion.finish()


def _run(
    children: Children,
    command_line: Sequence[str],
    ring_directory: Path,
    companion: Companion | None,
) -> int:
    try:
        child = children.spawn(command_line, _environment(ring_directory))
    except OSError as error:
        raise _not_started(command_line[0], error) from error
    code = children.wait(child, companion.on_ended if companion else lambda _child, _code: None)
    return shell_code(code)


def _environment(ring_directory: Path) -> dict[str, str]:
    """Ours, with the way to the probe. An empty entry in PYTHONPATH would be the directory
    that the server is started in, so none is made."""
    path = [str(INJECT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        RING_DIR: str(ring_directory),
    }


def _not_started(command: str, error: OSError) -> CommandError:
    if error.errno == errno.ENOENT:
        return CommandError(f"{command}: command not found; check its name, or give its path", 127)
    return CommandError(
        f"{command} cannot be executed ({error.strerror}); check its permissions, or name its "
        "interpreter: pinchpoint run -- python server.py",
        126,
    )


def _agent_options(arguments: argparse.Namespace) -> list[str]:
    """What was given of the agent's own options; the rings are ours to place."""
    file = vars(arguments)[FILE]
    given = given_flags(arguments)
    options = [f"{s.flag}={given[s.key]}" for s in FLAGGED if s.key in given and s.key != RINGS]
    return [f"{FILE_FLAG}={file}", *options] if file else options


@contextmanager
def _ring_directory(arguments: argparse.Namespace) -> Iterator[Path]:
    """The directory for the rings; a private one is removed at the end."""
    given = vars(arguments)[RINGS]
    if given is not None:
        yield _checked(Path(given).absolute())
    elif arguments.no_agent:
        yield default_ring_directory().absolute()
    else:
        private = _make_private()
        try:
            yield private
        finally:
            shutil.rmtree(private, ignore_errors=True)


def _checked(directory: Path) -> Path:
    if not directory.is_dir():
        raise RingDirectoryError(f"{directory} is not a directory: make it, or omit --ring-dir")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RingDirectoryError(
            f"{directory} is not writable: change its permissions, or omit --ring-dir"
        )
    return directory


def _make_private() -> Path:
    # In memory where that is possible: rings are written at every request.
    parents = [SHARED_MEMORY, None] if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else [None]
    for parent in parents:
        try:
            return Path(tempfile.mkdtemp(prefix="pinchpoint-", dir=parent))
        except OSError as error:
            failure = error
    raise RingDirectoryError(
        f"no directory for the rings can be made ({failure.strerror}): give one with --ring-dir"
    )
