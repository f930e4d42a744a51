"""Starts and stops the probe of this process.

Activation only waits for imports: everything but this file and the import hook is loaded
when the process imports grpc or torch, so a process that does neither pays nothing.

Environment, read once: `PINCHPOINT_RING_DIR` (default `/dev/shm/pinchpoint`),
`PINCHPOINT_DISABLE=1` (nothing is installed), `PINCHPOINT_DEBUG=1` (the first internal
error of each part is printed).
"""

from __future__ import annotations

import atexit
import os
from types import ModuleType
from typing import TYPE_CHECKING

from pinchpoint.probe.import_hook import AfterImportFinder
from pinchpoint.probe.say import say

if TYPE_CHECKING:
    from pinchpoint.probe.process import ProcessProbe

RING_DIR = "PINCHPOINT_RING_DIR"
DISABLE = "PINCHPOINT_DISABLE"
DEFAULT_RING_DIR = "/dev/shm/pinchpoint"


class Activation:
    """The probe as installed in this process: it waits, then lives in `probe`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.probe: ProcessProbe | None = None
        self._finder = AfterImportFinder({"grpc._server": self._on_grpc, "torch": self._on_torch})

    def install(self) -> None:
        """Wait for grpc and torch, or hook them at once if they are there."""
        self._finder.install()

    def uninstall(self) -> None:
        """Stop waiting, and take the probe out if it came."""
        self._finder.uninstall()
        if self.probe is not None:
            self.probe.uninstall()

    def _needed(self) -> ProcessProbe:
        if self.probe is None:
            from pathlib import Path

            from pinchpoint.probe.process import ProcessProbe

            self.probe = ProcessProbe(Path(self._directory))
        return self.probe

    def _on_grpc(self, module: ModuleType, _late: bool) -> None:
        self._needed().on_grpc(module)

    def _on_torch(self, module: ModuleType, late: bool) -> None:
        self._needed().on_torch(module, late)


class _Installed:
    """What is installed in this process, if anything."""

    activation: Activation | None = None
    hooked = False


def install() -> bool:
    """Start the probe; see `pinchpoint.install`."""
    if _Installed.activation is not None:
        return True
    if os.environ.get(DISABLE, "") not in ("", "0"):
        return False
    try:
        activation = Activation(os.environ.get(RING_DIR) or DEFAULT_RING_DIR)
        activation.install()
        _Installed.activation = activation
        if not _Installed.hooked:
            # Neither hook can be taken back, so each asks for what is installed then.
            os.register_at_fork(after_in_child=_after_fork)
            atexit.register(_at_exit)
            _Installed.hooked = True
    except Exception as error:
        say(f"the probe could not start, the server runs on without it ({error})")
        return False
    return True


def uninstall() -> None:
    """Stop the probe; see `pinchpoint.uninstall`."""
    activation, _Installed.activation = _Installed.activation, None
    if activation is not None:
        activation.uninstall()


def _probe() -> ProcessProbe | None:
    return _Installed.activation.probe if _Installed.activation is not None else None


def _after_fork() -> None:
    try:
        probe = _probe()
        if probe is not None:
            probe.after_fork()
    except Exception as error:
        say(f"the probe is off in a forked process ({error})")


def _at_exit() -> None:
    try:
        probe = _probe()
        if probe is not None:
            probe.stop()
    except Exception as error:
        say(f"the probe did not end in order ({error})")
