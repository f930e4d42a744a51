"""Families of the server as a whole: what it holds now, and what waits before it."""

from __future__ import annotations

from pinchpoint.expose.family import Family
from pinchpoint.expose.reading import NS, counter, gauge

SERVER: tuple[Family, ...] = (
    gauge(
        "pinchpoint_requests_in_flight",
        "Requests that have arrived and are not finished.",
        ("ServerSample", "in_flight", 1, ()),
    ),
    gauge(
        "pinchpoint_requests_queued",
        "Requests that wait for a worker.",
        ("ServerSample", "queued", 1, ()),
    ),
    gauge(
        "pinchpoint_requests_core_waiting",
        "RPCs that the gRPC core has accepted and Python has not seen, an estimate.",
        ("ServerSample", "core_waiting", 1, ()),
    ),
    counter(
        "pinchpoint_request_core_wait_seconds",
        "Time that all RPCs together have waited in the gRPC core for Python, an estimate.",
        (),
        ("ServerSample", "core_wait_ns", NS, ()),
    ),
    gauge(
        "pinchpoint_oldest_request_age_seconds",
        "Age of the oldest request in flight; 0 when there is none.",
        ("ServerSample", "oldest_age_ns", NS, ()),
    ),
    gauge(
        "pinchpoint_workers",
        "Threads of the server's pool.",
        ("ServerSample", "workers", 1, ()),
    ),
    gauge(
        "pinchpoint_workers_busy",
        "Threads of the pool that are handling a request.",
        ("ServerSample", "workers_busy", 1, ()),
    ),
)
