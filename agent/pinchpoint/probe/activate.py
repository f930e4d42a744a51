"""Starts and stops the probe of this process.

Activation only waits for imports: the ring and the threads come with the first gRPC
server, so that the tools a server's start script runs, and the workers it forks, cost
nothing. After a fork the child starts from there again.

Environment, read once: `PINCHPOINT_RING_DIR` (default `/dev/shm/pinchpoint`),
`PINCHPOINT_DISABLE=1` (nothing is installed), `PINCHPOINT_DEBUG=1` (the first internal
error of each part is printed).
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from types import ModuleType

from pinchpoint.probe import thread_state
from pinchpoint.probe.grpc_server import GrpcServerProbe
from pinchpoint.probe.guard import Guard
from pinchpoint.probe.import_hook import AfterImportFinder
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.sampling import Sampling
from pinchpoint.probe.torch_forward import TorchForwardProbe
from pinchpoint.ring.housekeeping import prepare_directory, sweep
from pinchpoint.samplers.python_runtime import GcWatch

RING_DIR = "PINCHPOINT_RING_DIR"
DISABLE = "PINCHPOINT_DISABLE"
DEFAULT_RING_DIR = "/dev/shm/pinchpoint"


class Probe:
    """The probe of one process, from activation to the end.

    Args:
        directory: where the ring will be made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._guard = Guard()
        self._gc_watch = GcWatch()
        self._recorder: Recorder | None = None
        self._sampling: Sampling | None = None
        self._torch = TorchForwardProbe(self._guard.part("torch"))
        self._grpc = GrpcServerProbe(
            self._guard.part("grpc"), self._start, self._torch.before_handler
        )
        self._finder = AfterImportFinder({"grpc._server": self._on_grpc, "torch": self._on_torch})

    def install(self) -> None:
        """Wait for grpc and torch, or hook them at once if they are there."""
        self._finder.install()

    def uninstall(self) -> None:
        """Put back what was replaced, stop the threads, release the ring."""
        self._finder.uninstall()
        self._grpc.uninstall()
        self._torch.uninstall()
        self.stop()

    def stop(self) -> None:
        """The process ends, or the probe is taken out."""
        self._gc_watch.uninstall()
        if self._sampling is not None:
            self._sampling.stop()
        if self._recorder is not None:
            self._recorder.close()
        self._sampling = self._recorder = None

    def after_fork(self) -> None:
        """In the child: the parent's ring and traffic are not ours; threads are gone."""
        if self._recorder is None:
            return
        self._recorder.writer.abandon()
        self._recorder = self._sampling = None
        thread_state.forget()
        self._grpc.forget()
        self._torch.forget()

    def _on_grpc(self, module: ModuleType, _late: bool) -> None:
        part = self._guard.part("grpc")
        try:
            self._grpc.install(module)
        except Exception as error:
            part.trip(error)

    def _on_torch(self, module: ModuleType, late: bool) -> None:
        part = self._guard.part("torch")
        try:
            self._torch.install(module, look_back=late)
        except Exception as error:
            part.trip(error)

    def _start(self) -> Recorder:
        """The first server of this process is being made."""
        try:
            prepare_directory(self._directory)
            sweep(self._directory)
            recorder = Recorder(self._directory, self._gc_watch)
        except OSError as error:
            _say(
                "the probe is off, the server runs on without it: no ring can be made in "
                f"{self._directory} ({error.strerror or error}); make the directory writable "
                f"or set {RING_DIR}"
            )
            raise
        self._recorder = recorder
        self._gc_watch.install()
        self._torch.start(recorder)
        self._sampling = Sampling(self._guard, recorder, self._gc_watch, self._grpc, self._torch)
        self._sampling.start()
        return recorder


class _Installed:
    """The probe that is installed in this process, if any."""

    probe: Probe | None = None
    hooked = False


def install() -> bool:
    """Start the probe; see `pinchpoint.install`."""
    if _Installed.probe is not None:
        return True
    if os.environ.get(DISABLE, "") not in ("", "0"):
        return False
    try:
        probe = Probe(Path(os.environ.get(RING_DIR) or DEFAULT_RING_DIR))
        probe.install()
        _Installed.probe = probe
        if not _Installed.hooked:
            # Neither hook can be taken back, so each asks for the probe of the moment.
            os.register_at_fork(after_in_child=_after_fork)
            atexit.register(_at_exit)
            _Installed.hooked = True
    except Exception as error:
        _say(f"the probe could not start, the server runs on without it ({error})")
        return False
    return True


def uninstall() -> None:
    """Stop the probe; see `pinchpoint.uninstall`."""
    probe, _Installed.probe = _Installed.probe, None
    if probe is not None:
        probe.uninstall()


def _say(sentence: str) -> None:
    """Once at start, never per request; a closed stderr is no reason to fail."""
    try:
        sys.stderr.write(f"pinchpoint: {sentence}\n")
    except (OSError, ValueError, AttributeError):
        pass


def _after_fork() -> None:
    if _Installed.probe is not None:
        _Installed.probe.after_fork()


def _at_exit() -> None:
    if _Installed.probe is not None:
        _Installed.probe.stop()
