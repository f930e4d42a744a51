"""The closed vocabularies of the record: stages, components, categories, gRPC codes.

Order is part of the wire format: a stage or a category is stored as its index, so
new members are appended and none is ever removed or moved.
"""

from __future__ import annotations

STAGES: tuple[str, ...] = (
    "queue",
    "receive",
    "deserialize",
    "preprocess",
    "batch_wait",
    "forward",
    "postprocess",
    "handler",
    "serialize",
    "send",
)
"""Stages of a request. `handler` is the handler's time when no forward splits it."""

STAGE_INDEX = {name: index for index, name in enumerate(STAGES)}

COMPONENTS: tuple[str, ...] = (
    "core_wait",
    "queue",
    "cpu",
    "runqueue",
    "throttled",
    "gil",
    "gc",
    "memory",
    "disk",
    "downstream",
    "lock",
    "send",
    "device",
    "batch",
    "unattributed",
)
"""Disjoint shares of a request's latency (the precedence is in `detect.decomposition`)."""

WAIT_CATEGORIES: tuple[str, ...] = (
    "running",
    "client",
    "socket",
    "sleep",
    "lock",
    "disk",
    "torch",
    "python",
    "unknown",
)
"""What a request thread is doing at its innermost frame, as the stack sampler sees it."""

CATEGORY_INDEX = {name: index for index, name in enumerate(WAIT_CATEGORIES)}

GRPC_TYPES: tuple[str, ...] = ("unary", "client_stream", "server_stream", "bidi_stream")

UNARY = GRPC_TYPES.index("unary")

GRPC_CODES: tuple[str, ...] = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""gRPC status names, indexed by their canonical number."""

SERVER_FAULT_CODES: tuple[str, ...] = (
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
)
"""Codes that count against the server's availability, and are exported as zeros up front."""

OTHER = "_OTHER"
"""The name that everything beyond a cap, or unknown to the server, is folded into."""
