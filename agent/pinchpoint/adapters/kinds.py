"""Every kind of server that is known."""

from __future__ import annotations

from pinchpoint.adapters.adapter import Adapter
from pinchpoint.adapters.sglang import SGLANG
from pinchpoint.adapters.tgi import TGI
from pinchpoint.adapters.torchserve import TORCHSERVE
from pinchpoint.adapters.triton import TRITON
from pinchpoint.adapters.vllm import VLLM

ADAPTERS: tuple[Adapter, ...] = (VLLM, SGLANG, TRITON, TGI, TORCHSERVE)

KINDS = tuple(adapter.kind for adapter in ADAPTERS)


def adapter_of(kind: str) -> Adapter:
    """The adapter of a kind.

    Raises:
        KeyError: there is none.
    """
    return {adapter.kind: adapter for adapter in ADAPTERS}[kind]
