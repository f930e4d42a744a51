"""The figures as Markdown, between the markers of a file.

Every ratio and every difference is paired: both arms in the same round. In the head of its
column stands the interval that the control, bare against bare, has there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TypeVar

from bench.overhead import end_to_end, forwards, over_the_wire, rpc_path, start_up
from bench.overhead.paired import Estimate, estimate
from bench.overhead.variants import (
    BARE,
    BARE_AGAIN,
    OPENTELEMETRY,
    PINCHPOINT,
    PY_GRPC_PROMETHEUS,
)
from bench.report import table

_MEBIBYTE = 2**20
_PATH_NAMES = {PINCHPOINT: "Pinchpoint, record of every request"}

_ORDER = (*rpc_path.ARMS, *start_up.ARMS, *end_to_end.ARMS)

T = TypeVar("T")
Round = tuple[int, int]
Values = Mapping[str, Mapping[Round, float]]
"""By arm, by generation and round."""


def rpc_paths(kinds: Mapping[str, rpc_path.Samples]) -> str:
    """CPU added to one RPC in the process."""
    return "\n\n".join(_rpc_path(kind, samples) for kind, samples in kinds.items())


def _rpc_path(kind: str, samples: rpc_path.Samples) -> str:
    control = _interval(rpc_path.added_ns(samples, BARE_AGAIN), 1e-3, 2)
    rows = []
    for arm, of_arm in samples.items():
        own = median(ns for generation in of_arm for ns in generation) / 1e3
        added, cheaper = "", ""
        if arm != BARE:
            added = _with_interval(rpc_path.added_ns(samples, arm), 1e-3, 2)
        if arm in (PY_GRPC_PROMETHEUS, OPENTELEMETRY):
            cheaper = _with_interval(rpc_path.times_cheaper(samples, PINCHPOINT, arm), 1, 1)
        rows.append((_PATH_NAMES.get(arm, arm), f"{own:.2f}", added, cheaper))
    return table(
        (
            f"{kind}",
            "CPU of an RPC, µs",
            f"added, µs (A/A {control})",
            "Pinchpoint adds x times less",
        ),
        rows,
    )


def over_wire(turns: Sequence[over_the_wire.Turn]) -> str:
    """The echo servers under h2load."""
    tables = []
    for kind, shape in dict.fromkeys((turn.kind, turn.shape) for turn in turns):
        some = [turn for turn in turns if (turn.kind, turn.shape) == (kind, shape)]
        columns: dict[str, Callable[[over_the_wire.Turn], float]] = {
            "CPU/RPC, µs": lambda turn: turn.cpu_us,
            "p50, µs": lambda turn: turn.p50_us,
            "p99, µs": lambda turn: turn.p99_us,
            "RPC/s": lambda turn: turn.per_second,
        }
        tables.append(
            _ratios(
                f"{kind}, {shape}",
                {
                    name: _by_arm(some, lambda t: t.arm, lambda t: (t.generation, t.round), value)
                    for name, value in columns.items()
                },
                digits=0,
            )
        )
    return "\n\n".join(tables)


def memory(found: Sequence[over_the_wire.Memory]) -> str:
    """Resident memory of the echo servers after their warm-up."""
    rows = []
    for kind, arm in dict.fromkeys((one.kind, one.arm) for one in found):
        of_arm = [one for one in found if (one.kind, one.arm) == (kind, arm)]
        bare = [one for one in found if (one.kind, one.arm) == (kind, BARE)]
        more = [own.resident - its.resident for own, its in zip(of_arm, bare, strict=True)]
        rows.append(
            (
                f"{kind}, {arm}",
                f"{median(one.resident for one in of_arm) / _MEBIBYTE:.1f}",
                "" if arm == BARE else _with_interval(estimate(more), 1 / _MEBIBYTE, 1),
                f"{median(one.shared for one in of_arm) / _MEBIBYTE:.1f}",
            )
        )
    return table(("server", "resident, MiB", "added, MiB", "of it the ring, MiB"), rows)


def starts(found: Sequence[start_up.Start]) -> str:
    """A Python process that imports neither grpc nor torch."""
    columns: dict[str, Callable[[start_up.Start], float]] = {
        "wall, ms": lambda start: start.wall_ms,
        "CPU, ms": lambda start: start.cpu_ms,
    }
    return _differences(
        "start-up",
        {
            name: _by_arm(found, lambda s: s.arm, lambda s: (0, s.round), value)
            for name, value in columns.items()
        },
        scale=1,
    )


def torch_forwards(found: Sequence[forwards.Turn]) -> str:
    """One forward, without and with the sampling of layers."""
    tables = []
    for model in dict.fromkeys(turn.model for turn in found):
        some = [turn for turn in found if turn.model == model]
        columns: dict[str, Callable[[forwards.Turn], float]] = {
            "no layers sampled, µs": lambda turn: turn.median_ns,
            "layers sampled as in production, µs": lambda turn: turn.mean_ns,
        }
        values = {
            name: _by_arm(some, lambda t: t.arm, lambda t: (t.generation, t.round), value)
            for name, value in columns.items()
        }
        tables.append(_differences(model, values, scale=1e-3))
    return "\n\n".join(tables)


def classifier(results: Sequence[end_to_end.Round]) -> str:
    """The demo server."""
    columns: dict[str, Callable[[end_to_end.Round], float]] = {
        "RPC/s of four callers": lambda r: r.together.requests_per_second,
        "p50 of one caller, ms": lambda r: r.alone.p50_seconds * 1e3,
    }
    return _ratios(
        "image classifier",
        {
            name: _by_arm(results, lambda r: r.arm, lambda r: (0, r.round), value)
            for name, value in columns.items()
        },
        digits=1,
    )


def _by_arm(
    samples: Iterable[T],
    arm: Callable[[T], str],
    number: Callable[[T], Round],
    value: Callable[[T], float],
) -> Values:
    found: dict[str, dict[Round, float]] = {}
    for sample in samples:
        found.setdefault(arm(sample), {})[number(sample)] = value(sample)
    return {name: found[name] for name in dict.fromkeys(_ORDER) if name in found}


def _paired(values: Values, arm: str, compare: Callable[[float, float], float]) -> Estimate:
    bare = values[BARE]
    return estimate([compare(value, bare[number]) for number, value in values[arm].items()])


def _ratios(title: str, columns: Mapping[str, Values], digits: int) -> str:
    """Medians, and medians of the ratios to bare."""

    def ratio(own: float, bare: float) -> float:
        return own / bare

    return _compared(title, columns, ratio, "ratio", (1, digits), (1, 3))


def _differences(title: str, columns: Mapping[str, Values], scale: float) -> str:
    """Medians, and medians of the differences to bare."""

    def difference(own: float, bare: float) -> float:
        return own - bare

    return _compared(title, columns, difference, "added", (scale, 2), (scale, 2))


def _compared(
    title: str,
    columns: Mapping[str, Values],
    compare: Callable[[float, float], float],
    word: str,
    own_format: tuple[float, int],
    compared_format: tuple[float, int],
) -> str:
    head = [title]
    for name, values in columns.items():
        control = _interval(_paired(values, BARE_AGAIN, compare), *compared_format)
        head += [name, f"{word} (A/A {control})"]
    scale, digits = own_format
    rows = []
    for arm in next(iter(columns.values())):
        row = [arm]
        for values in columns.values():
            row.append(f"{median(values[arm].values()) * scale:.{digits}f}")
            compared = _paired(values, arm, compare)
            row.append("" if arm == BARE else _with_interval(compared, *compared_format))
        rows.append(row)
    return table(head, rows)


def _with_interval(found: Estimate, scale: float, digits: int) -> str:
    return f"{found.median * scale:.{digits}f} ({_interval(found, scale, digits)})"


def _interval(found: Estimate, scale: float, digits: int) -> str:
    return f"{found.low * scale:.{digits}f} to {found.high * scale:.{digits}f}"
