"""What a fault may touch of the running service."""

from __future__ import annotations

from typing import Protocol


class FaultRig(Protocol):
    """The parts of a running service that faults act on."""

    @property
    def server_pid(self) -> int:
        """Process id of the inference server itself, not of what started it."""

    @property
    def feature_store_address(self) -> str:
        """HOST:PORT of the dependency."""

    def switch(self, fault: str, on: bool) -> None:
        """Throw a switch inside the server; raises OSError when the server is gone."""


class Fault(Protocol):
    """A real fault that can be put into a running service and taken out again."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def label(self) -> str:
        """The label Pinchpoint should give while the fault is in."""

    def available(self) -> str | None:
        """Return None, or a sentence that says what this machine lacks for the fault."""

    def inject(self, rig: FaultRig) -> None:
        """Put the fault in."""

    def remove(self, rig: FaultRig) -> None:
        """Take the fault out; harmless when it is not in or the server is gone."""
