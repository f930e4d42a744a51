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
from _thread import RLock  # importing `threading` takes a millisecond

from pinchpoint.probe.import_hook import AfterImportFinder
from pinchpoint.probe.say import say

TYPE_CHECKING = False  # importing `typing` takes eight milliseconds
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from pinchpoint.probe.import_hook import AfterImport
    from pinchpoint.probe.process import ProcessProbe

RING_DIR = "PINCHPOINT_RING_DIR"
DISABLE = "PINCHPOINT_DISABLE"
DEFAULT_RING_DIR = "/dev/shm/pinchpoint"

ASGI_MODULES = ("uvicorn.config", "starlette.applications", "fastapi.routing")
"""Where HTTP applications are loaded, called and routed."""


class Activation:
    """The probe as installed in this process: it waits, then lives in `probe`.

    `install`, `uninstall` and imports on any thread may meet: each takes the lock, which is
    re-entrant because hooks import.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = RLock()
        self._over = False
        self.probe: ProcessProbe | None = None
        hooks = {
            "grpc._server": self._on_grpc,
            "grpc.aio._server": self._on_grpc_aio,
            "torch": self._on_torch,
        }
        hooks.update(dict.fromkeys(ASGI_MODULES, self._on_asgi))
        self._finder = AfterImportFinder(
            {name: self._unless_over(hook) for name, hook in hooks.items()}
        )

    def install(self) -> None:
        """Wait for grpc and torch, or hook them at once if they are there."""
        with self._lock:
            if not self._over:
                self._finder.install()

    def uninstall(self) -> None:
        """Stop waiting, and take the probe out if it came."""
        with self._lock:
            self._over = True
            self._finder.uninstall()
            if self.probe is not None:
                self.probe.uninstall()

    def after_fork(self) -> None:
        """In the child: a thread that is not here may have held the lock."""
        self._lock = RLock()
        if self.probe is not None:
            self.probe.after_fork()

    def _unless_over(self, hook: AfterImport) -> AfterImport:
        def locked(module: ModuleType, late: bool) -> None:
            with self._lock:
                if not self._over:
                    hook(module, late)

        return locked

    def _needed(self) -> ProcessProbe:
        if self.probe is None:
            from pathlib import Path

            from pinchpoint.probe.process import ProcessProbe

            self.probe = ProcessProbe(Path(self._directory))
        return self.probe

    def _on_grpc(self, module: ModuleType, _late: bool) -> None:
        self._needed().on_grpc(module)

    def _on_grpc_aio(self, module: ModuleType, _late: bool) -> None:
        self._needed().on_grpc_aio(module)

    def _on_torch(self, module: ModuleType, late: bool) -> None:
        self._needed().on_torch(module, late)

    def _on_asgi(self, module: ModuleType, _late: bool) -> None:
        self._needed().on_asgi(module)

    def wrap_asgi(self, app: Any) -> Any:
        """The ASGI application, measured."""
        with self._lock:
            return app if self._over else self._needed().http.wrap(app)


class _Installed:
    """What is installed in this process, if anything.

    `changing` is held for as long as anything is being replaced or put back: what one probe puts
    back must not be what another has just replaced.
    """

    activation: Activation | None = None
    hooked = False
    changing = RLock()


def install() -> bool:
    """Start the probe; see `pinchpoint.install`."""
    if _Installed.activation is not None:
        return True
    if os.environ.get(DISABLE, "") not in ("", "0"):
        return False
    with _Installed.changing:
        return _install()


def _install() -> bool:
    if _Installed.activation is not None:
        return True
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


def wrap_asgi(app: Any) -> Any:
    """Measure an application; see `pinchpoint.asgi`."""
    install()
    activation = _Installed.activation
    try:
        return app if activation is None else activation.wrap_asgi(app)
    except Exception as error:
        say(f"the probe could not start, the server runs on without it ({error})")
        return app


def uninstall() -> None:
    """Stop the probe; see `pinchpoint.uninstall`."""
    with _Installed.changing:
        activation, _Installed.activation = _Installed.activation, None
        if activation is not None:
            activation.uninstall()


def _probe() -> ProcessProbe | None:
    return _Installed.activation.probe if _Installed.activation is not None else None


def _after_fork() -> None:
    try:
        # A thread that is not here may have held it.
        _Installed.changing = RLock()
        if _Installed.activation is not None:
            _Installed.activation.after_fork()
    except Exception as error:
        say(f"the probe is off in a forked process ({error})")


def _at_exit() -> None:
    try:
        probe = _probe()
        if probe is not None:
            probe.stop()
    except Exception as error:
        say(f"the probe did not end in order ({error})")
