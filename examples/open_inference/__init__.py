"""The Open Inference Protocol (KServe V2) over gRPC: messages, service table and tensors."""

from __future__ import annotations


class GeneratedCodeMissing(ImportError):
    """The protocol's messages were not generated yet; the text says how to do it."""
