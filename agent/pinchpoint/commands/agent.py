"""`pinchpoint agent`: the sidecar."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from pinchpoint.commands.say import say
from pinchpoint.errors import PinchpointError
from pinchpoint.probe.activate import DEFAULT_RING_DIR, RING_DIR

COMPANION = "--companion-of"
"""Hidden: the descriptor of the socket that ties an agent to the `pinchpoint run` it serves."""

READY = b"ready\n"
"""What the agent says through that socket once it serves; the only bytes that ever pass."""


class AgentCommand:
    """The agent beside a serving process, alone in its process."""

    name = "agent"
    help = "serve metrics of the servers whose rings are in a directory (the sidecar)"
    usage = "pinchpoint agent [--web.listen-address HOST:PORT] [--ring-dir DIR] [--record FILE]"
    description = """\
Reads the rings that probes write into a directory and serves what they tell:

  /metrics           Prometheus or OpenMetrics
  /api/v1/verdict    the bottleneck and its evidence, as JSON
  /-/healthy, /-/ready

The directory may be mounted read-only and may not exist yet. Servers may come, go, fork and
crash; the agent runs until SIGTERM or SIGINT.
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument(
            "--web.listen-address",
            dest="listen_address",
            metavar="HOST:PORT",
            default="0.0.0.0:10061",
            help="where to serve (default: %(default)s)",
        )
        parser.add_argument(
            "--ring-dir",
            metavar="DIR",
            type=Path,
            help=f"where the rings are (default: ${RING_DIR}, else {DEFAULT_RING_DIR})",
        )
        add_record_argument(parser)
        parser.add_argument(COMPANION, type=int, metavar="FD", help=argparse.SUPPRESS)

    def run(self, arguments: argparse.Namespace) -> int:
        """Serve until stopped."""
        try:
            from pinchpoint.sidecar.app import Agent, AgentOptions
            from pinchpoint.sidecar.stop import StopRequests
        except ModuleNotFoundError as error:
            raise PinchpointError(
                f"the agent needs {error.name}, which is not installed: pip install "
                "'pinchpoint[agent]', or `pinchpoint run --no-agent` where a sidecar runs"
            ) from error
        descriptor = arguments.companion_of
        parent = None if descriptor is None else socket.socket(fileno=descriptor)
        stop = StopRequests(parent)
        ring_directory = arguments.ring_dir or default_ring_directory()
        agent = Agent(AgentOptions(arguments.listen_address, ring_directory, arguments.record), say)
        try:
            if parent is not None:
                parent.sendall(READY)
            agent.run(stop.wait)
        finally:
            agent.close()
        return 0


def add_record_argument(parser: argparse.ArgumentParser) -> None:
    """`--record`, which `run` hands on to its agent."""
    parser.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="also write all that is read to FILE, for `pinchpoint replay` (at most 4 GiB)",
    )


def default_ring_directory() -> Path:
    """Where probes make their rings unless told otherwise."""
    return Path(os.environ.get(RING_DIR) or DEFAULT_RING_DIR)
