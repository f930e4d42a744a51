"""The methods of a server: their ids in the ring, learnt at registration or at the first call."""

from __future__ import annotations

from pinchpoint.probe.recorder import Recorder
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import UNARY

METHODS_MAX = 512
"""Methods told apart. Beyond it a method is `_OTHER`: a server that answers any name at all
would otherwise let its clients fill the name table and this process' memory."""

HEALTH_SERVICES = ("grpc.health.", "grpc.reflection.", "grpc.channelz.")
"""Services whose calls say nothing about the service; they are left out."""

HEALTH_METHODS = ("/ServerLive", "/ServerReady")
"""The same of the Open Inference Protocol, which has them beside its real methods."""


class Method:
    """A method as the records know it. `plain`: it is unary, and watched."""

    __slots__ = ("call_type", "id", "plain", "watched")

    def __init__(self, method_id: int, call_type: int, *, watched: bool) -> None:
        self.id = method_id
        self.call_type = call_type
        self.watched = watched
        self.plain = watched and call_type == UNARY


_UNKNOWN = Method(0, UNARY, watched=True)


class Methods:
    """Methods by their names."""

    def __init__(self) -> None:
        self._by_name: dict[str, Method] = {}

    def register(self, recorder: Recorder, name: str, call_type: int) -> Method:
        """The method of that name (`/package.Service/Method`), declared to the agent."""
        method = self._by_name.get(name)
        if method is not None:
            return method
        if _is_health(name):
            method = Method(0, call_type, watched=False)
        elif len(self._by_name) < METHODS_MAX:
            method_id = recorder.intern(NameKind.METHOD, name, call_type)
            method = Method(method_id, call_type, watched=True)
        else:
            return Method(0, call_type, watched=True)
        self._by_name[name] = method
        return method

    def known(self, name: str) -> Method:
        """The method of that name if there is one, else one that stands for all unknown names."""
        if _is_health(name):
            return Method(0, 0, watched=False)
        return self._by_name.get(name, _UNKNOWN)


def _is_health(name: str) -> bool:
    return name.lstrip("/").startswith(HEALTH_SERVICES) or name.endswith(HEALTH_METHODS)


def method_name(tag: str | bytes) -> str:
    """The name in the tag of a registered method's event, or in an event's raw bytes."""
    return tag.decode("utf-8", "replace") if isinstance(tag, bytes) else str(tag)
