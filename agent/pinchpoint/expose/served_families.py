"""Families of servers without a probe, by their own metrics. `model` is empty where a server does
not name it."""

from __future__ import annotations

from collections.abc import Iterable

from pinchpoint.expose.family import Family, Labels, Point, PointsOf
from pinchpoint.snapshot import Snapshot

STAGES = ("queue", "input", "prefill", "compute", "decode", "output")


def _of_models(*fields: tuple[str, Labels], counters: bool) -> PointsOf:
    """Fields of every model, told apart by the labels after the model's."""

    def points(snapshot: Snapshot) -> Iterable[Point]:
        values = snapshot.counters if counters else snapshot.gauges
        for (kind, model, key), value in sorted(values.items()):
            if kind == "ServedSample":
                for field, labels in fields:
                    if field == key:
                        yield (model, *labels), value

    return points


def _counter(name: str, text: str, field: str) -> Family:
    return Family(name, "counter", text, ("model",), _of_models((field, ()), counters=True))


SERVED: tuple[Family, ...] = (
    Family(
        "pinchpoint_served_requests",
        "counter",
        "Requests that a server without a probe counts as finished or failed.",
        ("model", "outcome"),
        _of_models(("finished", ("finished",)), ("failed", ("failed",)), counters=True),
    ),
    Family(
        "pinchpoint_served_requests_in_state",
        "gauge",
        "Requests in a server without a probe: running, waiting for room, or deferred for "
        "something else.",
        ("model", "state"),
        _of_models(
            *((state, (state,)) for state in ("running", "waiting", "deferred")), counters=False
        ),
    ),
    _counter(
        "pinchpoint_served_request_seconds",
        "Time that finished requests have spent in a server without a probe, its queue included.",
        "request_seconds",
    ),
    Family(
        "pinchpoint_served_stage_seconds",
        "counter",
        "Time that requests have spent in a stage, as a server without a probe accounts for it.",
        ("model", "stage"),
        _of_models(*((f"{stage}_seconds", (stage,)) for stage in STAGES), counters=True),
    ),
    _counter(
        "pinchpoint_served_first_token_seconds",
        "Time to the first token of all requests together.",
        "first_token_seconds",
    ),
    _counter(
        "pinchpoint_served_first_tokens",
        "Requests whose first token has come.",
        "first_tokens",
    ),
    Family(
        "pinchpoint_served_tokens",
        "counter",
        "Tokens that a server without a probe has read (prompt) or written (generated).",
        ("model", "kind"),
        _of_models(
            ("prompt_tokens", ("prompt",)), ("generated_tokens", ("generated",)), counters=True
        ),
    ),
    _counter(
        "pinchpoint_served_executions",
        "Batches that a server without a probe has executed.",
        "executions",
    ),
    _counter(
        "pinchpoint_served_preemptions",
        "Requests that were put back to the queue for want of room in the cache.",
        "preemptions",
    ),
    Family(
        "pinchpoint_served_cache_usage_ratio",
        "gauge",
        "How full the cache of keys and values is; of several engines the fullest.",
        ("model",),
        _of_models(("cache_usage_ratio", ()), counters=False),
    ),
)
