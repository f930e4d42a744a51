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
    "batch",
    "executor",
    "loop",
)
"""What a request is doing at its innermost frame, as the stack sampler sees it. `batch`: it waits
for a forward that another thread runs for many; `executor`: a coroutine waits for a worker thread;
`loop`: its task is ready and waits for the event loop."""

CATEGORY_INDEX = {name: index for index, name in enumerate(WAIT_CATEGORIES)}

GRPC_TYPES: tuple[str, ...] = ("unary", "client_stream", "server_stream", "bidi_stream")

CALL_TYPES: tuple[str, ...] = (*GRPC_TYPES, "http", "http_stream")
"""Kinds of request. An HTTP response whose body comes in one piece is `http`."""

UNARY = CALL_TYPES.index("unary")
HTTP = CALL_TYPES.index("http")
HTTP_STREAM = CALL_TYPES.index("http_stream")
ONE_RESPONSE = frozenset((UNARY, HTTP))
"""Types whose latency is the time to an answer; a stream lasts as long as its client likes."""

REQUEST_STREAMS = frozenset(map(GRPC_TYPES.index, ("client_stream", "bidi_stream")))
RESPONSE_STREAMS = frozenset(map(GRPC_TYPES.index, ("server_stream", "bidi_stream")))
"""RPCs of any number of messages that way; the other way it is one at most."""

HTTP_SERVICE = "http"
"""What stands for the service where a request has none."""

STATUS_MAX = 599
"""gRPC codes run from 0 to 16, HTTP ones to 599; 0 is an HTTP request that got no response."""

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

GAP_BOUNDS_NS: tuple[int, ...] = tuple(
    round(bound * 1e9)
    for bound in (
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    )
)  # fmt: skip
"""Upper bounds of what is counted where it happens: gaps between the messages of a stream, the lag
of an event loop. 0.1 ms to 10 s, as the queue's."""

OTHER = "_OTHER"
"""The name that everything beyond a cap, or unknown to the server, is folded into."""


def status_text(call_type: int, status: int) -> str:
    """The name of a gRPC code; the digits of an HTTP one."""
    return GRPC_CODES[status] if call_type < len(GRPC_TYPES) else str(status)
