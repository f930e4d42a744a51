"""`pinchpoint agent`: the sidecar."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from pinchpoint.commands.say import say
from pinchpoint.config.flags import FILE, add_flags, given_flags
from pinchpoint.config.model import FILE_VARIABLE, Config, WebSection
from pinchpoint.errors import PinchpointError
from pinchpoint.probe.activate import DEFAULT_RING_DIR, RING_DIR

COMPANION = "--companion-of"
"""Hidden: the descriptor of the socket that ties an agent to the `pinchpoint run` it serves."""

COMPANION_ADDRESS = "127.0.0.1:10061"
"""Where such an agent serves unless told otherwise."""

READY = b"ready\n"
"""What the agent says through that socket once it serves; the only bytes that ever pass."""


class AgentCommand:
    """The agent beside a serving process, alone in its process."""

    name = "agent"
    help = "serve metrics of the servers whose rings are in a directory (the sidecar)"
    usage = "pinchpoint agent [--config.file FILE] [OPTION ...]"
    description = """\
Reads the rings that probes write into a directory and serves what they tell:

  /metrics           Prometheus or OpenMetrics
  /api/v1/verdict    the bottleneck and its evidence, as JSON
  /-/healthy, /-/ready

The directory may be mounted read-only and may not exist yet. Servers may come, go, fork and
crash; the agent runs until SIGTERM or SIGINT.

Every setting is a key of the configuration file and a variable: web.listen_address is
PINCHPOINT_WEB_LISTEN_ADDRESS. Variables are stronger than the file, options than both.
`pinchpoint check-config FILE` checks a file; SIGHUP makes the agent read it again.
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_flags(parser, {})
        parser.add_argument(COMPANION, type=int, metavar="FD", help=argparse.SUPPRESS)

    def run(self, arguments: argparse.Namespace) -> int:
        """Serve until stopped."""
        try:
            from pinchpoint.config.load import Loaded, load
            from pinchpoint.sidecar.app import Agent, agent_options
            from pinchpoint.sidecar.reload import Reloads
            from pinchpoint.sidecar.stop import StopRequests
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        descriptor = arguments.companion_of
        parent = None if descriptor is None else socket.socket(fileno=descriptor)
        file = configuration_file(arguments, os.environ)
        flags = given_flags(arguments)
        base = Config() if parent is None else Config(web=WebSection(COMPANION_ADDRESS))

        def read() -> Loaded:
            return load(file, os.environ, flags, base)

        loaded = read()
        for note in loaded.notes:
            say(note)
        reloads = Reloads(loaded.config, read if file else None, say)
        stop = StopRequests(parent, reloads.ask)
        agent = Agent(agent_options(loaded.config), say, reloads)
        try:
            if parent is not None:
                parent.sendall(READY)
            agent.run(stop.wait)
        finally:
            agent.close()
        return 0


def configuration_file(
    arguments: argparse.Namespace, environment: Mapping[str, str]
) -> Path | None:
    """The file that an option or the environment names."""
    text = vars(arguments)[FILE] or environment.get(FILE_VARIABLE)
    return Path(text) if text else None


def missing_extra(error: ModuleNotFoundError) -> PinchpointError:
    """What to do where the agent's packages are not installed."""
    return PinchpointError(
        f"the agent needs {error.name}, which is not installed: pip install "
        "'pinchpoint[agent]', or `pinchpoint run --no-agent` where a sidecar runs"
    )


def default_ring_directory() -> Path:
    """Where probes make their rings unless told otherwise."""
    return Path(os.environ.get(RING_DIR) or DEFAULT_RING_DIR)
