"""CPU that each variant adds to the Python path of one unary RPC, in the process.

`python -m bench.overhead.rpc_path` prints the samples as JSON. It needs the peers
(`environment.py`). What runs on other threads is not in these figures: the probe's heartbeat and
samplers, OpenTelemetry's exporter. `over_the_wire.py` has them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.overhead import variants
from bench.overhead.aio_path import AioServer, Core
from bench.overhead.echo import echo, echo_aio
from bench.overhead.interleaved import Measure, turns
from bench.overhead.paired import Estimate, estimate
from bench.overhead.sync_path import SyncServer

CHECKED_RPCS = 200
WARM_UP_RPCS = 2_000
WARM_UP_OF_TURN = 50
"""The arm before has filled the caches with its own."""

ARMS: Mapping[str, Callable[[], variants.Bare]] = {
    **variants.VARIANTS,
    variants.PINCHPOINT: lambda: variants.Pinchpoint(variants.SAMPLE_NONE_PER_SECOND),
}
SYNC_ARMS = tuple(ARMS)
AIO_ARMS = tuple(name for name in ARMS if name != variants.PY_GRPC_PROMETHEUS)
KINDS = {"sync": SYNC_ARMS, "aio": AIO_ARMS}

Samples = dict[str, list[list[float]]]
"""By arm: nanoseconds of an RPC, by round, by generation."""


def _sync(variant: variants.Bare) -> SyncServer:
    variant.install()
    return SyncServer(variant, echo)


def _aio(variant: variants.Bare) -> AioServer:
    core = Core()
    variant.install()
    return AioServer(core, variant, echo_aio)


def make(kind: str, name: str) -> Measure:
    """In the arm's own process: its server, checked and warm."""
    variant = ARMS[name]()
    server = _sync(variant) if kind == "sync" else _aio(variant)

    def check() -> None:
        """Every RPC is counted, and looked at in detail as often as the arm says."""
        before = variant.seen(), variant.sampled()
        server.rpcs(CHECKED_RPCS)
        counted = variant.seen() - before[0]
        if variant.counts and counted != CHECKED_RPCS:
            raise RuntimeError(f"{counted} of {CHECKED_RPCS} RPCs were counted")
        if before[1] is not None:
            details = (variant.sampled() or 0) - before[1]
            expected = CHECKED_RPCS if name == variants.PINCHPOINT_SAMPLED else 0
            if details != expected:
                raise RuntimeError(f"{details} RPCs were sampled, not {expected}")

    def measure(calls: int) -> list[float]:
        if not calls:
            check()
            return []
        server.rpcs(WARM_UP_OF_TURN)
        begin = time.thread_time_ns()
        server.rpcs(calls)
        nanoseconds = (time.thread_time_ns() - begin) / calls
        variant.seen()
        return [nanoseconds]

    check()
    server.rpcs(WARM_UP_RPCS)
    variant.seen()
    return measure


def measure(
    kind: str, arms: Sequence[str], *, generations: int, rounds: int, calls: int
) -> Samples:
    """Interleaved rounds of all arms.

    Raises:
        RuntimeError: an arm did not serve, or did not count what it served.
    """
    makers = {name: (lambda name=name: make(kind, name)) for name in arms}
    samples: Samples = {name: [[] for _ in range(generations)] for name in arms}
    for turn in turns(makers, generations, rounds, calls):
        samples[turn.arm][turn.generation] += turn.nanoseconds
    return samples


def added_ns(samples: Samples, arm: str) -> Estimate:
    """Nanoseconds that an arm adds to a bare RPC, over the generations."""
    return estimate(_added_ns(samples, arm))


def times_cheaper(samples: Samples, arm: str, peer: str) -> Estimate:
    """What a peer adds over what an arm adds, over the generations.

    What noise has taken below a nanosecond counts as one.
    """
    both = zip(_added_ns(samples, peer), _added_ns(samples, arm), strict=True)
    return estimate([max(1.0, theirs) / max(1.0, ours) for theirs, ours in both])


def _added_ns(samples: Samples, arm: str) -> list[float]:
    """Of each generation the median of its rounds' differences."""
    return [
        median(own - bare for own, bare in zip(of_arm, of_bare, strict=True))
        for of_arm, of_bare in zip(samples[arm], samples[variants.BARE], strict=True)
    ]


def main() -> int:
    """Measure what the command line says and print the samples."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead.rpc_path", description=__doc__)
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("--arms", nargs="+", choices=SYNC_ARMS, metavar="ARM")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    arms = options.arms or KINDS[options.kind]
    json.dump(
        measure(
            options.kind,
            arms,
            generations=options.generations,
            rounds=options.rounds,
            calls=options.calls,
        ),
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
