"""How many names keep a series of their own. Beyond, they are folded into `_OTHER`: names come
from the server, some from its clients, and must not make series without end."""

from __future__ import annotations

from collections.abc import Collection

from pinchpoint.schema.terms import OTHER

METHODS_MAX = 64
"""gRPC methods and HTTP routes together."""
STATUSES_MAX = 8
"""HTTP codes of one route: clients can provoke many, and each is a histogram."""
MODELS_MAX = 16
LAYERS_MAX = 32
STAGES_MAX = 32
READINGS_MAX = 32
"""Models, signals, and instances of a type of sample."""


def capped(name: str, known: Collection[str], most: int) -> str:
    """The name if it is known or there is room for it, else `_OTHER`."""
    return name if name in known or len(known) < most else OTHER
