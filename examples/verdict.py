"""The agent's verdict as values: what ``GET /api/v1/verdict`` says, absent numbers as None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HEALTHY = "healthy"
BOTTLENECK = "bottleneck"


@dataclass(frozen=True)
class Share:
    """One component of latency."""

    name: str
    seconds: float | None
    ratio: float


@dataclass(frozen=True)
class Stage:
    """One stage of a request, wall time."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Primary:
    """The one label, with why and what to do."""

    type: str
    state: str
    owner: str
    summary: str
    share_ratio: float | None
    evidence: tuple[str, ...]
    remedies: tuple[str, ...]
    mean_latency_reduction_ratio: float | None


@dataclass(frozen=True)
class Traffic:
    """What the server is asked for."""

    requests_per_second: float | None
    p50_seconds: float | None
    p99_seconds: float | None
    in_flight: float | None
    queued: float | None
    workers: float | None
    workers_busy: float | None


@dataclass(frozen=True)
class Verdict:
    """One answer of the agent."""

    state: str
    primary: Primary
    also_active: tuple[str, ...]
    traffic: Traffic
    shares: tuple[Share, ...]
    stages: tuple[Stage, ...]
    unattributed_ratio: float | None
    missing_signals: tuple[str, ...]


def parse_verdict(document: dict[str, Any]) -> Verdict:
    """Read the agent's document; fields it does not have are None or empty."""
    primary = _primary(document.get("primary") or {})
    decomposition = document.get("decomposition") or {}
    active = [str(each.get("type", "")) for each in document.get("active") or []]
    return Verdict(
        state=str(document.get("state", "unknown")),
        primary=primary,
        also_active=tuple(name for name in active if name and name != primary.type),
        traffic=_traffic(document.get("traffic") or {}),
        shares=_shares(decomposition.get("components") or []),
        stages=_stages(decomposition.get("stages") or []),
        unattributed_ratio=_number(decomposition.get("unattributed_ratio")),
        missing_signals=tuple(
            str(signal.get("name", ""))
            for signal in document.get("signals") or []
            if not signal.get("available", True)
        ),
    )


def _primary(values: dict[str, Any]) -> Primary:
    evidence = values.get("evidence") or []
    whatif = values.get("whatif") or {}
    return Primary(
        type=str(values.get("type", "unknown")),
        state=str(values.get("state") or ""),
        owner=str(values.get("owner") or ""),
        summary=str(values.get("summary") or ""),
        share_ratio=_number(values.get("share_ratio")),
        evidence=tuple(str(each.get("text", "")) for each in evidence if each.get("text")),
        remedies=tuple(str(remedy) for remedy in values.get("remedies") or []),
        mean_latency_reduction_ratio=_number(whatif.get("mean_latency_reduction_ratio")),
    )


def _traffic(values: dict[str, Any]) -> Traffic:
    return Traffic(
        requests_per_second=_number(values.get("requests_per_second")),
        p50_seconds=_number(values.get("p50_seconds")),
        p99_seconds=_number(values.get("p99_seconds")),
        in_flight=_number(values.get("in_flight")),
        queued=_number(values.get("queued")),
        workers=_number(values.get("workers")),
        workers_busy=_number(values.get("workers_busy")),
    )


def _shares(components: list[dict[str, Any]]) -> tuple[Share, ...]:
    shares = [
        Share(str(each.get("name", "")), _number(each.get("seconds")), ratio)
        for each in components
        if (ratio := _number(each.get("share_ratio"))) is not None and ratio > 0
    ]
    return tuple(sorted(shares, key=lambda share: -share.ratio))


def _stages(stages: list[dict[str, Any]]) -> tuple[Stage, ...]:
    return tuple(
        Stage(str(each.get("name", "")), seconds)
        for each in stages
        if (seconds := _number(each.get("wall_seconds"))) is not None
    )


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None
