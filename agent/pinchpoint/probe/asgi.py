"""ASGI applications, seen as a layer around them that their servers call.

Two places suffice. `uvicorn.config.Config.load` leaves the application that every protocol and
worker of uvicorn will call in `loaded_app`, whatever framework it is of; `Starlette.__call__` is
where Starlette and FastAPI begin under every other server. A request that passes both is measured
at the first: it is marked in its scope, under a name of ours, which survives the copies that
layers between may make.

Websockets and the lifespan pass through untouched, and unseen.
"""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop, _get_running_loop, current_task
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from pinchpoint.probe.asgi_request import HttpCall
from pinchpoint.probe.asgi_routes import HEALTH_PATHS, Routes, watch_fastapi, watch_starlette
from pinchpoint.probe.call import Call
from pinchpoint.probe.guard import Part
from pinchpoint.probe.loop_lag import LoopLag
from pinchpoint.probe.recorder import HASH, HASH_MASK, Recorder
from pinchpoint.probe.server_probe import ServerProbe
from pinchpoint.probe.threadpool import ThreadPool

MARK = "pinchpoint"
"""The key of a scope whose request is being measured."""

App = Callable[[Any, Any, Any], Awaitable[Any]]


class AsgiProbe(ServerProbe):
    """Every ASGI application of this process.

    Args:
        loops: told of every loop that serves. The others: as of every `ServerProbe`; the recorder
            is made when the first application is loaded or called.
    """

    name = "http"

    def __init__(
        self, part: Part, start: Callable[[], Recorder], active: set[Call], loops: LoopLag
    ) -> None:
        super().__init__(part, start, active)
        self.routes = Routes()
        self._loops = loops
        self._loop: AbstractEventLoop | None = None
        self._threads = ThreadPool(part)
        self._loaded: WeakKeyDictionary[Any, tuple[App, App]] = WeakKeyDictionary()

    def install(self, module: ModuleType) -> None:
        """Patch `uvicorn.config`, `starlette.applications` or `fastapi.routing`."""
        if module.__name__ == "uvicorn.config":
            self._wrap_load(module.Config)
        elif module.__name__ == "fastapi.routing":
            watch_fastapi(module, self.part, self._patches)
        else:
            self._wrap_call(module.Starlette)
            # Starlette's applications import both.
            watch_starlette(sys.modules["starlette.routing"], self.part, self._patches)
            self._threads.watch(sys.modules["anyio.to_thread"], self._patches)

    def uninstall(self) -> None:
        """Put back everything that was replaced."""
        super().uninstall()
        for config, (app, measured) in list(self._loaded.items()):
            if config.loaded_app is measured:
                config.loaded_app = app

    def workers(self) -> int | None:
        """The most threads that sync endpoints get, once one has run."""
        return self._threads.workers()

    def forget(self) -> None:
        """After a fork: the parent's traffic and names are not the child's."""
        super().forget()
        self.routes = Routes()
        self._loop = None
        self._threads.forget()

    # Patches

    def _wrap_load(self, config_class: Any) -> None:
        original = config_class.load

        def load(config: Any) -> Any:
            result = original(config)
            if self.part.enabled:
                try:
                    self._adopt(config)
                except Exception as error:
                    self.part.trip(error)
            return result

        self._patches.replace(config_class, "load", load)

    def _adopt(self, config: Any) -> None:
        app = config.loaded_app
        measured = self._measure(app)
        self._loaded[config] = app, measured
        config.loaded_app = measured

    def _wrap_call(self, application_class: Any) -> None:
        original = application_class.__call__

        # A coroutine function, because servers look for one.
        async def __call__(application: Any, scope: Any, receive: Any, send: Any) -> Any:  # noqa: N807
            call = self.begin(scope, receive, send) if self.part.enabled else None
            if call is None:
                return await original(application, scope, receive, send)
            return await call.serve(original.__get__(application), scope)

        self._patches.replace(application_class, "__call__", __call__)

    def wrap(self, app: App) -> App:
        """The application, measured; a coroutine function, by which servers know their kind."""
        measured = self._measure(app)

        async def application(scope: Any, receive: Any, send: Any) -> Any:
            return await measured(scope, receive, send)

        return application

    def _measure(self, app: App) -> App:
        if self.part.enabled:
            try:
                self.recorder  # noqa: B018  # the agent sees an idle server too
            except Exception as error:
                self.part.trip(error)

        def measured(scope: Any, receive: Any, send: Any) -> Awaitable[Any]:
            call = self.begin(scope, receive, send) if self.part.enabled else None
            if call is None:
                return app(scope, receive, send)
            return call.serve(app, scope)

        return measured

    # The beginning of a request

    def begin(self, scope: Any, receive: Any, send: Any) -> HttpCall | None:
        """The request of a scope; None for what is not measured, or is already."""
        try:
            if scope["type"] != "http" or MARK in scope:
                return None
            scope[MARK] = True
            self.seen = arrival = self.arrivals()
            if scope["path"] in HEALTH_PATHS:
                return None
            recorder = self.started or self.recorder
            sampled = (arrival * HASH) & HASH_MASK < recorder.threshold
            call = HttpCall(self, recorder, scope, receive, send, sampled=sampled)
            loop = _get_running_loop()
            if loop is not None:
                call.task = current_task(loop)
                if loop is not self._loop:
                    self._loops.watch(loop)
                    self._loop = loop
            if recorder.models.pending:
                recorder.models.before_handler()
            self.active.add(call)
        except Exception as error:
            self.part.trip(error)
            return None
        return call
