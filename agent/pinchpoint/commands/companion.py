"""The agent that `pinchpoint run` starts beside its command.

It is a process of its own: the server's interpreter lock and memory are not shared with it. It
has a session of its own, so that Ctrl-C ends the server first and the agent reads what it wrote
last. A socket ties it to us: its end, however it comes, ends the agent.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pinchpoint.commands.agent import COMPANION, READY
from pinchpoint.commands.children import Children, ending_signal, shell_code
from pinchpoint.commands.say import say
from pinchpoint.errors import PinchpointError
from pinchpoint.probe.activate import DISABLE

START_SECONDS_MAX = 30.0
LAST_POLL_SECONDS_MAX = 2.0
"""How long the agent may take over its last look once the command has ended."""

_LOOK_SECONDS = 0.05
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]

# Nothing in the directory that the user happens to be in may be imported by the agent.
_START = """\
import sys
sys.path[:] = [entry for entry in sys.path if entry] + [sys.argv.pop(1)]
from pinchpoint.cli import main
raise SystemExit(main())
"""


class Companion:
    """A running agent that is ready.

    Args:
        children: where it was started.
        options: the arguments of `pinchpoint agent`.

    Raises:
        PinchpointError: it does not start.
        SystemExit: it has said itself why it does not, or we are asked to end.
    """

    def __init__(self, children: Children, options: Sequence[str]) -> None:
        self._children = children
        self._ours, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            self._process_id = self._spawn([*options, COMPANION, str(theirs.fileno())])
        try:
            self._wait_until_ready()
        except BaseException:
            self.finish()
            raise

    def on_ended(self, process_id: int, code: int) -> None:
        """A child has ended that is not the command: tell if it is the agent."""
        if process_id == self._process_id:
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            say(f"the agent has ended ({how}); the command runs on without metrics")

    def finish(self) -> None:
        """Let the agent look a last time, then end it."""
        self._ours.close()
        deadline = time.monotonic() + LAST_POLL_SECONDS_MAX
        if self._children.wait_until(self._process_id, deadline) is None:
            self._children.kill(self._process_id)

    def _spawn(self, arguments: Sequence[str]) -> int:
        environment = {**os.environ, DISABLE: "1"}
        command = [sys.executable, "-c", _START, str(_PACKAGE_PARENT), "agent", *arguments]
        # Standard input and output are the command's own.
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 2, 1),
        ]
        return self._children.spawn(command, environment, actions, own_session=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if select.select([self._ours], [], [], _LOOK_SECONDS)[0]:
                if self._ours.recv(len(READY)) == READY:
                    return
                self._explain_end()
            number = ending_signal()
            if number is not None:
                raise SystemExit(shell_code(-number))
        raise PinchpointError(
            f"the agent was not ready within {START_SECONDS_MAX:.0f} s, and the command was not "
            "started: try again, or use --no-agent"
        )

    def _explain_end(self) -> None:
        code = self._children.wait_until(self._process_id, time.monotonic() + START_SECONDS_MAX)
        if code is not None and code > 0:
            raise SystemExit(code)
        raise PinchpointError(
            f"the agent was ended by signal {-(code or 0)} while it started, and the command was "
            "not started: try again, or use --no-agent"
        )
