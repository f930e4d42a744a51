"""The protocol's generated messages, or one clear sentence when they were not generated yet."""

from __future__ import annotations

from examples.open_inference import GeneratedCodeMissing

try:
    from examples.open_inference.generated import open_inference_pb2 as messages
except ModuleNotFoundError as missing:
    if not (missing.name or "").startswith("examples.open_inference.generated"):
        raise
    raise GeneratedCodeMissing(
        "the protocol's messages are missing; "
        "generate them with: python -m examples.open_inference.generate"
    ) from missing

__all__ = ["messages"]
