"""The routes of HTTP applications: their ids in the ring, by method and path template.

Starlette's routing says which template a path has matched, so that the names are the server's
own and never its clients'. What nothing matched, and every application without such routing, is
`GET _OTHER`; an unknown method is `_OTHER` (OpenTelemetry's convention for HTTP).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from pinchpoint.probe.asgi_request import HttpCall
from pinchpoint.probe.guard import Part
from pinchpoint.probe.methods import METHODS_MAX
from pinchpoint.probe.patches import Patches
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.thread_state import call_of_context
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import HTTP, OTHER

HTTP_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)

HEALTH_PATHS = frozenset(
    (
        "/health",
        "/healthz",
        "/livez",
        "/readyz",
        "/ping",
        "/metrics",
        "/metrics/",
        "/v2/health/live",
        "/v2/health/ready",
    )
)
"""Paths whose requests say nothing about the service; they are left out."""

_MOUNTED = "/{path}"
"""How the template of a mount ends."""


class Routes:
    """Ids of routes, at most `METHODS_MAX`; beyond it they are as if nothing had matched.

    Attributes:
        known: ids by method and template; filled by `learn`.
        unmatched: ids of requests without a route, by method; filled by `without`.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], int] = {}
        self.unmatched: dict[str, int] = {}

    def learn(self, recorder: Recorder, http_method: str, template: str) -> int:
        """The id of a route that is not known yet."""
        if http_method not in HTTP_METHODS or len(self.known) >= METHODS_MAX:
            return self.without(recorder, http_method)
        route_id = recorder.intern(NameKind.METHOD, f"{http_method} {template}", HTTP)
        self.known[http_method, template] = route_id
        return route_id

    def without(self, recorder: Recorder, http_method: str) -> int:
        """The id of what has no route."""
        name = http_method if http_method in HTTP_METHODS else OTHER
        route_id = recorder.intern(NameKind.METHOD, f"{name} {OTHER}", HTTP)
        if name != OTHER:
            self.unmatched[name] = route_id
        return route_id


def watch_starlette(module: ModuleType, part: Part, patches: Patches) -> None:
    """Patch the routes of `starlette.routing`: each tells its template to the request."""
    _tell(module.Route, HttpCall.at_route, part, patches)
    _tell(module.Mount, _at_mount, part, patches)


def watch_fastapi(module: ModuleType, part: Part, patches: Patches) -> None:
    """Patch the routes of `fastapi.routing` that do not go through Starlette's."""
    if "handle" in vars(module.APIRoute):
        _tell(module.APIRoute, _at_fastapi_route, part, patches)


def _tell(
    route_class: Any, tell: Callable[[HttpCall, Any, Any], None], part: Part, patches: Patches
) -> None:
    original = route_class.handle

    def handle(route: Any, scope: Any, receive: Any, send: Any) -> Any:
        if part.enabled:
            try:
                call = call_of_context.get()
                if isinstance(call, HttpCall):
                    tell(call, route, scope)
            except Exception as error:
                part.trip(error)
        return original(route, scope, receive, send)

    patches.replace(route_class, "handle", handle)


def _at_mount(call: HttpCall, mount: Any, scope: Any) -> None:
    # A mounted application without routes of its own leaves it at this.
    call.at_route(mount, scope)
    call.prefix += mount.path_format.removesuffix(_MOUNTED)


def _at_fastapi_route(call: HttpCall, route: Any, scope: Any) -> None:
    # A router that was included under a prefix keeps its own templates; the prefix is here.
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is None or context.original_route is not route:
        context = route
    call.at_route(context, scope)
