"""Every metric family, in the order of exposition. FAMILIES is the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pinchpoint import __version__
from pinchpoint.detect.labels import LABELS
from pinchpoint.expose import readings_families as readings
from pinchpoint.expose.family import Family, Labels, Point, PointsOf
from pinchpoint.snapshot import Histogram, MethodTotals, Snapshot

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_SERVICE = ("grpc_service", "grpc_method")


def _of(method: MethodTotals) -> tuple[str, str, str]:
    return method.grpc_type, method.service, method.method


def _started(snapshot: Snapshot) -> Iterable[Point]:
    for method in snapshot.methods:
        yield _of(method), method.started


def _handled(snapshot: Snapshot) -> Iterable[Point]:
    for method in snapshot.methods:
        for code, count in sorted(method.handled.items()):
            yield (*_of(method), code), count


def _by_service(histogram_of: Callable[[MethodTotals], Histogram]) -> PointsOf:
    """Histograms by service and method: RPCs of several types, as `_OTHER` has, in one."""

    def points(snapshot: Snapshot) -> Iterable[Point]:
        merged: dict[Labels, Histogram] = {}
        for method in snapshot.methods:
            labels = _of(method)[1:]
            so_far, more = merged.get(labels), histogram_of(method)
            merged[labels] = so_far.plus(more) if so_far else more
        return merged.items()

    return points


def _active(snapshot: Snapshot) -> Iterable[Point]:
    active = {active.found.label.type for active in snapshot.verdict.active}
    for label in LABELS:
        yield (label.type, "provisional"), float(label.type in active)


def _primary(snapshot: Snapshot) -> Iterable[Point]:
    verdict = snapshot.verdict
    first = verdict.active[0].found if verdict.active else None
    owner, subtype = (first.label.owner, first.subtype) if first else ("", "")
    yield (verdict.primary, owner, subtype), 1.0


def _whatif(snapshot: Snapshot) -> Iterable[Point]:
    for active in snapshot.verdict.active:
        gain, label = active.found.gain, active.found.label.type
        if gain.trusted:
            yield (label, "mean"), gain.mean_ratio
            yield (label, "p95"), gain.p95_ratio


def _gauge_of(value: float | None, scale: float = 1.0) -> Iterable[Point]:
    if value is not None:
        yield (), value * scale


def _server(snapshot: Snapshot, field: str) -> float | None:
    return snapshot.gauges.get(("ServerSample", "", field))


_REQUESTS = (
    Family(
        "grpc_server_started",
        "counter",
        "Total number of RPCs started on the server.",
        _METHOD,
        _started,
    ),
    Family(
        "grpc_server_handled",
        "counter",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        (*_METHOD, "grpc_code"),
        _handled,
    ),
    Family(
        "grpc_server_handling_seconds",
        "histogram",
        "Time in the handler, waiting before it excluded.",
        _METHOD,
        lambda s: ((_of(m), m.handling) for m in s.methods),
    ),
    Family(
        "pinchpoint_request_seconds",
        "histogram",
        "Arrival to sent, waiting included.",
        _SERVICE,
        _by_service(lambda method: method.request),
    ),
    Family(
        "pinchpoint_request_queue_seconds",
        "histogram",
        "Arrival to a free worker.",
        _SERVICE,
        _by_service(lambda method: method.queue),
    ),
    Family(
        "pinchpoint_request_stage_seconds",
        "counter",
        "Time in each stage of a request, from the sampled requests weighted to all.",
        ("stage",),
        lambda s: (((stage,), seconds) for stage, (_, seconds) in sorted(s.stage_seconds.items())),
    ),
    Family(
        "pinchpoint_request_stages",
        "counter",
        "Requests that went through each stage, from the sampled requests weighted to all.",
        ("stage",),
        lambda s: (((stage,), count) for stage, (count, _) in sorted(s.stage_seconds.items())),
    ),
    Family(
        "pinchpoint_requests_in_flight",
        "gauge",
        "Requests that have arrived and are not finished.",
        (),
        lambda s: _gauge_of(_server(s, "in_flight")),
    ),
    Family(
        "pinchpoint_requests_queued",
        "gauge",
        "Requests that wait for a worker.",
        (),
        lambda s: _gauge_of(_server(s, "queued")),
    ),
    Family(
        "pinchpoint_requests_rejected",
        "counter",
        "Requests refused before they reached the pool.",
        ("reason",),
        lambda s: (((reason,), count) for reason, count in sorted(s.rejected.items())),
    ),
    Family(
        "pinchpoint_oldest_request_age_seconds",
        "gauge",
        "Age of the oldest request in flight; 0 when there is none.",
        (),
        lambda s: _gauge_of(_server(s, "oldest_age_ns"), 1e-9),
    ),
    Family(
        "pinchpoint_workers",
        "gauge",
        "Threads of the server's pool.",
        (),
        lambda s: _gauge_of(_server(s, "workers")),
    ),
    Family(
        "pinchpoint_workers_busy",
        "gauge",
        "Threads of the pool that are handling a request.",
        (),
        lambda s: _gauge_of(_server(s, "workers_busy")),
    ),
    Family(
        "pinchpoint_request_time_seconds",
        "counter",
        "Time of all unary requests by where it went; components are disjoint and sum to it.",
        ("component",),
        lambda s: (((name,), seconds) for name, seconds in s.component_seconds.items()),
    ),
)

_MODELS = (
    Family(
        "pinchpoint_forward_seconds",
        "histogram",
        "Time of one forward of a model, seen from the host.",
        ("model",),
        lambda s: (((m.model,), m.forward) for m in s.models),
    ),
    Family(
        "pinchpoint_batch_size",
        "histogram",
        "First dimension of a forward's first tensor.",
        ("model",),
        lambda s: (((m.model,), m.batch_size) for m in s.models if m.batch_size.count),
    ),
    Family(
        "pinchpoint_layer_seconds",
        "counter",
        "CPU time of a layer itself over the sampled forwards.",
        ("model", "layer"),
        lambda s: (
            ((m.model, layer), seconds)
            for m in s.models
            for layer, seconds in sorted(m.layer_seconds.items())
        ),
    ),
    Family(
        "pinchpoint_layer_samples",
        "counter",
        "Forwards whose layers were sampled.",
        ("model",),
        lambda s: (((m.model,), m.layer_samples) for m in s.models),
    ),
    Family(
        "pinchpoint_model_info",
        "gauge",
        "A model and where and how it runs.",
        ("model", "device", "dtype", "compiled"),
        lambda s: (
            ((m.model, m.device, m.dtype, str(m.compiled).lower()), 1.0) for m in s.model_facts
        ),
    ),
    Family(
        "pinchpoint_model_parameters",
        "gauge",
        "Parameters of a model.",
        ("model",),
        lambda s: (((m.model,), m.parameters) for m in s.model_facts if m.parameters is not None),
    ),
    Family(
        "pinchpoint_model_bytes",
        "gauge",
        "Size of a model's parameters.",
        ("model",),
        lambda s: (((m.model,), m.bytes) for m in s.model_facts if m.bytes is not None),
    ),
)

_VERDICT = (
    Family(
        "pinchpoint_bottleneck_state",
        "gauge",
        "1 while a bottleneck type is in a state.",
        ("type", "state"),
        _active,
    ),
    Family(
        "pinchpoint_bottleneck_primary_info",
        "gauge",
        "The verdict: exactly one series, a bottleneck type or healthy, idle, unknown.",
        ("type", "owner", "subtype"),
        _primary,
    ),
    Family(
        "pinchpoint_bottleneck_seconds",
        "counter",
        "Time that a bottleneck type was active.",
        ("type",),
        lambda s: (((name,), seconds) for name, seconds in s.bottleneck_seconds.items()),
    ),
    Family(
        "pinchpoint_bottleneck_transitions",
        "counter",
        "Times that a bottleneck type became active.",
        ("type",),
        lambda s: (((name,), count) for name, count in s.bottleneck_transitions.items()),
    ),
    Family(
        "pinchpoint_bottleneck_share_ratio",
        "gauge",
        "Share of latency that an active bottleneck type accounts for.",
        ("type",),
        lambda s: (((a.found.label.type,), a.found.share_ratio) for a in s.verdict.active),
    ),
    Family(
        "pinchpoint_whatif_latency_reduction_ratio",
        "gauge",
        "Latency that removing an active bottleneck would save, at most.",
        ("type", "stat"),
        _whatif,
    ),
    Family(
        "pinchpoint_utilization_ratio",
        "gauge",
        "The larger of worker and CPU utilization.",
        (),
        lambda s: _gauge_of(s.verdict.utilization_ratio),
    ),
    Family(
        "pinchpoint_unattributed_ratio",
        "gauge",
        "Share of latency that the decomposition cannot attribute.",
        (),
        lambda s: _gauge_of(
            s.verdict.decomposition.unattributed_ratio
            if s.verdict.decomposition.latency_seconds
            else None
        ),
    ),
)

_ITSELF = (
    Family(
        "pinchpoint_build_info",
        "gauge",
        "The version of the agent.",
        ("version",),
        lambda s: [((__version__,), 1.0)],
    ),
    Family(
        "pinchpoint_signal_available",
        "gauge",
        "1 if a signal can be read where the server runs.",
        ("signal",),
        lambda s: (((signal.name,), float(signal.available)) for signal in s.signals),
    ),
    Family(
        "pinchpoint_ring_records",
        "counter",
        "Records read from the rings.",
        (),
        lambda s: [((), s.records)],
    ),
    Family(
        "pinchpoint_ring_lost_records",
        "counter",
        "Records that were written and could not be read.",
        ("reason",),
        lambda s: (((reason,), count) for reason, count in sorted(s.lost.items())),
    ),
    Family(
        "pinchpoint_ring_errors",
        "counter",
        "Ring files that could not be attached or read on, and records that were dropped.",
        (),
        lambda s: [((), s.agent.ring_errors)],
    ),
    Family(
        "pinchpoint_rings",
        "gauge",
        "Rings attached: one for each serving process.",
        (),
        lambda s: [((), s.agent.rings_attached)],
    ),
    Family(
        "pinchpoint_agent_cpu_seconds",
        "counter",
        "CPU time of the agent.",
        (),
        lambda s: [((), s.agent.cpu_seconds)],
    ),
    Family(
        "pinchpoint_agent_resident_memory_bytes",
        "gauge",
        "Resident memory of the agent.",
        (),
        lambda s: [((), s.agent.resident_bytes)],
    ),
    Family(
        "pinchpoint_agent_start_time_seconds",
        "gauge",
        "Start of the agent, in seconds since the epoch.",
        (),
        lambda s: [((), s.agent.start_wall_seconds)],
    ),
    Family(
        "pinchpoint_agent_tick_lateness_seconds",
        "gauge",
        "How late the agent's last tick was.",
        (),
        lambda s: [((), s.agent.tick_lateness_seconds)],
    ),
)

FAMILIES: tuple[Family, ...] = (
    *_REQUESTS,
    *_MODELS,
    *readings.PROCESS,
    *readings.CONTAINER,
    *readings.PYTHON,
    *_VERDICT,
    *_ITSELF,
    *readings.PROBE,
)
