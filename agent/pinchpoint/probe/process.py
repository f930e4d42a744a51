"""All parts of the probe in one serving process, put together.

The ring and the threads come with the first gRPC server, so that the tools a server's
start script runs, and the workers it forks, cost nothing. After a fork the child starts
from there again.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType

from pinchpoint.probe import thread_state
from pinchpoint.probe.asgi import AsgiProbe
from pinchpoint.probe.call import Call
from pinchpoint.probe.grpc_aio import GrpcAioProbe
from pinchpoint.probe.grpc_server import GrpcServerProbe
from pinchpoint.probe.guard import Guard
from pinchpoint.probe.loop_lag import LoopLag
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.sampling import Sampling
from pinchpoint.probe.say import say
from pinchpoint.probe.server_probe import ServerProbe
from pinchpoint.probe.stages import Stages
from pinchpoint.probe.torch_forward import TorchForwardProbe
from pinchpoint.ring.housekeeping import prepare_directory, sweep
from pinchpoint.samplers.python_runtime import GcWatch


class ProcessProbe:
    """The probe of one process, from the first import of grpc or torch to the end.

    Args:
        directory: where the ring will be made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._guard = Guard()
        self._gc_watch = GcWatch()
        self._recorder: Recorder | None = None
        self._sampling: Sampling | None = None
        self._active: set[Call] = set()
        self._starting = threading.Lock()
        self._stages = Stages(self._guard.part("stages"))
        self._torch = TorchForwardProbe(self._guard.part("torch"), self._guard.part("torch_cuda"))
        self._grpc = GrpcServerProbe(self._guard.part("grpc"), self._start, self._active)
        self._loops = LoopLag(self._guard.part("loops"))
        self._aio = GrpcAioProbe(
            self._guard.part("grpc.aio"), self._start, self._active, self._loops
        )
        self.http = AsgiProbe(self._guard.part("http"), self._start, self._active, self._loops)
        self._servers: tuple[ServerProbe, ...] = (self._grpc, self._aio, self.http)

    def uninstall(self) -> None:
        """Put back what was replaced, stop the threads, release the ring."""
        self._guard.close()
        for server in self._servers:
            server.uninstall()
        self._torch.uninstall()
        self.stop()

    def stop(self) -> None:
        """The process ends, or the probe is taken out."""
        self._guard.close()
        self._stages.forget()
        self._loops.forget()
        self._gc_watch.uninstall()
        if self._sampling is not None:
            self._sampling.stop()
        if self._recorder is not None:
            self._recorder.close()
        self._sampling = self._recorder = None

    def after_fork(self) -> None:
        """In the child: the parent's ring and traffic are not ours; threads are gone."""
        self._starting = threading.Lock()
        recorder, sampling = self._recorder, self._sampling
        if recorder is None:
            return
        # First of all nothing may write to the parent's ring any more.
        self._recorder = self._sampling = None
        self._active.clear()
        # A sampler of its own will look at the kill switch for the child.
        self._guard.resume()
        self._stages.forget()
        for server in self._servers:
            server.forget()
        self._loops.forget()
        self._torch.forget()
        thread_state.forget()
        try:
            recorder.writer.abandon()
            if sampling is not None:
                sampling.close()
        except OSError:
            pass  # a descriptor that the server has closed for us

    def on_grpc(self, module: ModuleType) -> None:
        """`grpc._server` has been imported."""
        part = self._guard.part("grpc")
        try:
            self._grpc.install(module)
        except Exception as error:
            part.trip(error)

    def on_grpc_aio(self, module: ModuleType) -> None:
        """`grpc.aio._server` has been imported."""
        try:
            self._aio.install(module)
        except Exception as error:
            self._guard.part("grpc.aio").trip(error)

    def on_asgi(self, module: ModuleType) -> None:
        """`uvicorn.config`, `starlette.applications` or `fastapi.routing` has been imported."""
        try:
            self.http.install(module)
        except Exception as error:
            self._guard.part("http").trip(error)

    def on_torch(self, module: ModuleType, late: bool) -> None:
        """`torch` has been imported; `late` if that was before the probe came."""
        part = self._guard.part("torch")
        try:
            self._torch.install(module, look_back=late)
        except Exception as error:
            part.trip(error)

    def _start(self) -> Recorder:
        """A server of this process is being made, perhaps its first."""
        with self._starting:
            return self._recorder or self._make_recorder()

    def _make_recorder(self) -> Recorder:
        try:
            prepare_directory(self._directory)
            sweep(self._directory)
            recorder = Recorder(self._directory, self._gc_watch, self._torch)
        except OSError as error:
            say(
                "the probe is off, the server runs on without it: no ring can be made in "
                f"{self._directory} ({error.strerror or error}); make the directory writable "
                f"or set PINCHPOINT_RING_DIR"
            )
            raise
        self._recorder = recorder
        self._gc_watch.install()
        self._stages.start(recorder)
        self._torch.start(recorder)
        self._loops.start(recorder.intern)
        self._sampling = Sampling(
            self._guard,
            recorder,
            self._gc_watch,
            self._servers,
            self._active,
            self._grpc.in_flight,
            (
                ("models", self._torch.samples),
                ("torch_cuda", self._torch.device_samples),
                ("loops", self._loops.samples),
            ),
            self._loops.threads,
        )
        self._sampling.start()
        return recorder
