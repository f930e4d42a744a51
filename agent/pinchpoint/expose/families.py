"""Every metric family, in the order of exposition. FAMILIES is the reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pinchpoint import __version__
from pinchpoint.expose import readings_families as readings
from pinchpoint.expose.family import Family, by_label, single
from pinchpoint.expose.gpu_families import GPU
from pinchpoint.expose.model_families import MODELS
from pinchpoint.expose.request_families import HTTP, REQUESTS, RPCS
from pinchpoint.expose.served_families import SERVED
from pinchpoint.expose.server_families import SERVER
from pinchpoint.expose.torch_families import TORCH
from pinchpoint.expose.verdict_families import VERDICT

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
        lambda s: by_label(s.lost),
    ),
    Family(
        "pinchpoint_ring_errors",
        "counter",
        "Ring files that could not be attached or read on, and records that were dropped.",
        (),
        lambda s: [((), s.agent.ring_errors)],
    ),
    Family(
        "pinchpoint_names_folded",
        "counter",
        "Records of names that got no series of their own because there were too many.",
        ("kind",),
        lambda s: by_label(s.folded),
    ),
    Family(
        "pinchpoint_config_last_reload_successful",
        "gauge",
        "1 if the configuration was fine when it was last read.",
        (),
        lambda s: [((), float(s.agent.config_reload_successful))],
    ),
    Family(
        "pinchpoint_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration was last read and fine, in seconds since the epoch.",
        (),
        lambda s: [((), s.agent.config_reload_success_wall_seconds)],
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
        lambda s: single(s.agent.resident_bytes),
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


def _experimental(families: Iterable[Family]) -> tuple[Family, ...]:
    return tuple(replace(family, stability="experimental") for family in families)


GROUPS: tuple[tuple[str, tuple[Family, ...]], ...] = (
    ("gRPC, as go-grpc-middleware names it", RPCS),
    ("HTTP, as OpenTelemetry names it", HTTP),
    ("Requests and where their time goes", REQUESTS),
    ("The server now", SERVER),
    ("Servers by their own metrics", _experimental(SERVED)),
    ("Models", MODELS),
    ("torch's settings", TORCH),
    ("GPUs", _experimental(GPU)),
    ("Serving processes", readings.PROCESS),
    ("Container", readings.CONTAINER),
    ("Python", readings.PYTHON),
    ("Machine", readings.HOST),
    ("The verdict", VERDICT),
    ("The agent", _ITSELF),
    ("The probe", readings.PROBE),
)
"""All families but those of scraping itself, by what they tell of."""

FAMILIES: tuple[Family, ...] = tuple(family for _, families in GROUPS for family in families)
