"""Families of requests: gRPC's and HTTP's by their standard names, then both together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pinchpoint.expose.family import Family, Labels, Point, PointsOf, by_label, filled
from pinchpoint.schema.terms import HTTP_SERVICE, OTHER
from pinchpoint.snapshot import Histogram, MethodTotals, RouteTotals, Snapshot

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_ROUTE = ("http_request_method", "http_route")
_SERVICE = ("grpc_service", "grpc_method")


def _of(method: MethodTotals) -> tuple[str, str, str]:
    return method.grpc_type, method.service, method.method


def _handled(snapshot: Snapshot) -> Iterable[Point]:
    for method in snapshot.methods:
        for code, count in sorted(method.handled.items()):
            yield (*_of(method), code), count


def _durations(snapshot: Snapshot) -> Iterable[Point]:
    for route in snapshot.routes:
        for status, histogram in sorted(route.durations.items()):
            yield (route.http_method, route.route, status), histogram


def _named(snapshot: Snapshot) -> Iterator[tuple[Labels, MethodTotals | RouteTotals]]:
    """Everything that requests ask for, by `_SERVICE`."""
    for method in snapshot.methods:
        yield (method.service, method.method), method
    for route in snapshot.routes:
        unknown = route.http_method == route.route == OTHER
        yield (HTTP_SERVICE, OTHER if unknown else f"{route.http_method} {route.route}"), route


def _by_service(histogram_of: Callable[[MethodTotals | RouteTotals], Histogram]) -> PointsOf:
    """Histograms by service and method: RPCs of several types, as `_OTHER` has, in one."""

    def points(snapshot: Snapshot) -> Iterable[Point]:
        merged: dict[Labels, Histogram] = {}
        for labels, totals in _named(snapshot):
            so_far, more = merged.get(labels), histogram_of(totals)
            merged[labels] = so_far.plus(more) if so_far else more
        return merged.items()

    return points


def _abandoned(snapshot: Snapshot) -> Iterable[Point]:
    core = snapshot.counters.get(("ServerSample", "", "core_abandoned"), 0.0)
    for where, count in sorted(snapshot.abandoned.items()):
        yield (where,), count + (core if where == "core" else 0.0)


RPCS: tuple[Family, ...] = (
    Family(
        "grpc_server_started",
        "counter",
        "Total number of RPCs started on the server.",
        _METHOD,
        lambda s: ((_of(m), m.started) for m in s.methods),
    ),
    Family(
        "grpc_server_handled",
        "counter",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        (*_METHOD, "grpc_code"),
        _handled,
    ),
    Family(
        "grpc_server_msg_received",
        "counter",
        "Total number of RPC messages received on the server.",
        _METHOD,
        lambda s: ((_of(m), m.received) for m in s.methods),
    ),
    Family(
        "grpc_server_msg_sent",
        "counter",
        "Total number of RPC messages sent by the server.",
        _METHOD,
        lambda s: ((_of(m), m.sent) for m in s.methods),
    ),
    Family(
        "grpc_server_handling_seconds",
        "histogram",
        "Time in the handler, waiting before it excluded.",
        _METHOD,
        lambda s: ((_of(m), m.handling) for m in s.methods),
    ),
)

HTTP: tuple[Family, ...] = (
    Family(
        "http_server_request_duration_seconds",
        "histogram",
        "Duration of HTTP server requests, to the end of the response.",
        (*_ROUTE, "http_response_status_code"),
        _durations,
    ),
    Family(
        "http_server_active_requests",
        "gauge",
        "Number of active HTTP server requests.",
        _ROUTE,
        lambda s: (((r.http_method, r.route), r.in_flight) for r in s.routes),
    ),
)

REQUESTS: tuple[Family, ...] = (
    Family(
        "pinchpoint_request_seconds",
        "histogram",
        "Arrival to sent, waiting included.",
        _SERVICE,
        _by_service(lambda totals: totals.request),
    ),
    Family(
        "pinchpoint_request_queue_seconds",
        "histogram",
        "Arrival to a free worker.",
        _SERVICE,
        _by_service(lambda totals: totals.queue),
    ),
    Family(
        "pinchpoint_request_first_message_seconds",
        "histogram",
        "Arrival of a stream to its first response message.",
        (),
        lambda s: filled(s.first_message),
    ),
    Family(
        "pinchpoint_request_message_gap_seconds",
        "histogram",
        "Time between two response messages of a stream.",
        (),
        lambda s: filled(s.message_gap),
    ),
    Family(
        "pinchpoint_request_received_bytes",
        "histogram",
        "Size of a request's message, from the sampled requests weighted to all.",
        (),
        lambda s: filled(s.received_bytes),
    ),
    Family(
        "pinchpoint_request_sent_bytes",
        "histogram",
        "Size of a response's message, from the sampled requests weighted to all.",
        (),
        lambda s: filled(s.sent_bytes),
    ),
    Family(
        "pinchpoint_request_stage_seconds",
        "histogram",
        "Time in each stage of a request, from the sampled requests weighted to all. Buckets only "
        "where they are asked for.",
        ("stage",),
        lambda s: (((stage,), histogram) for stage, histogram in sorted(s.stages.items())),
    ),
    Family(
        "pinchpoint_stage_seconds",
        "histogram",
        "Time of one pass through a stage that the server's code names.",
        ("stage",),
        lambda s: (((stage.stage,), stage.wall) for stage in s.named_stages),
    ),
    Family(
        "pinchpoint_stage_self_seconds",
        "counter",
        "Time in a stage that the server's code names, without the named stages inside it.",
        ("stage",),
        lambda s: (((stage.stage,), stage.self_seconds) for stage in s.named_stages),
    ),
    Family(
        "pinchpoint_requests_rejected",
        "counter",
        "Requests refused before they reached the pool.",
        ("reason",),
        lambda s: by_label(s.rejected),
    ),
    Family(
        "pinchpoint_requests_abandoned",
        "counter",
        "RPCs given up before their handler ran: in the queue, or in the gRPC core before Python "
        "saw them, which is an estimate.",
        ("where",),
        _abandoned,
    ),
    Family(
        "pinchpoint_request_message_errors",
        "counter",
        "Messages that the server could not deserialize or serialize.",
        ("kind",),
        lambda s: by_label(s.message_errors),
    ),
    Family(
        "pinchpoint_request_time_seconds",
        "counter",
        "Time of all requests with one response by where it went; components are disjoint and "
        "sum to it.",
        ("component",),
        lambda s: by_label(s.component_seconds),
    ),
)
