"""What torch's settings cost the serving processes."""

from __future__ import annotations

from collections.abc import Iterable

from pinchpoint.expose.family import Family, Point
from pinchpoint.snapshot import Snapshot

_KINDS = ("grad_enabled", "training_mode", "float32_matmul", "model_on_cpu")


def _torch(snapshot: Snapshot, field: str) -> float | None:
    return snapshot.gauges.get(("TorchSample", "", field))


def _cpu_limit(snapshot: Snapshot) -> float | None:
    """Cores that the serving processes may use together: the quota or, lower, the affinity."""
    limits = (
        snapshot.gauges.get(("CgroupCpuSample", "", "limit_cores")),
        snapshot.gauges.get(("ProcessSample", "", "effective_cpus")),
    )
    return min((limit for limit in limits if limit is not None), default=None)


def _findings(snapshot: Snapshot) -> Iterable[Point]:
    for kind in _KINDS:
        found = _torch(snapshot, kind)
        if found is not None:
            yield (kind,), float(found > 0)
    threads, limit = _torch(snapshot, "intraop_threads"), _cpu_limit(snapshot)
    if threads is not None and limit is not None:
        # A limit of 1.5 cores keeps two threads busy.
        yield ("threads_over_cpu_limit",), float(threads > -(-limit // 1))


def _threads(snapshot: Snapshot) -> Iterable[Point]:
    for pool in ("intraop", "interop"):
        threads = _torch(snapshot, f"{pool}_threads")
        if threads is not None:
            yield (pool,), threads


TORCH: tuple[Family, ...] = (
    Family(
        "pinchpoint_torch_finding",
        "gauge",
        "1 while a served model costs more than it need, by what is known of torch: gradients "
        "recorded, training mode, float32 matrices in full precision where the hardware has "
        "faster, a model on the CPU beside a GPU, more threads than the CPU limit.",
        ("kind",),
        _findings,
    ),
    Family(
        "pinchpoint_torch_threads",
        "gauge",
        "Threads of torch's pools, summed over the serving processes.",
        ("pool",),
        _threads,
    ),
)
