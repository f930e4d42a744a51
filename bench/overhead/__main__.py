"""`python -m bench.overhead`: measure, print the tables, and with --write keep them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.overhead import (
    end_to_end,
    environment,
    forwards,
    h2load,
    over_the_wire,
    rpc_path,
    start_up,
    table,
)
from bench.overhead.variants import PINCHPOINT_SAMPLED

_BENCH = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    path_generations: int
    wire_generations: int
    wire_rounds: int
    wire_requests: dict[str, int]
    starts: int
    forward_generations: int
    classifier_rounds: int
    classifier_seconds: float


FULL = Amount(
    path_generations=10,
    wire_generations=5,
    wire_rounds=5,
    wire_requests={"c=1": 1_500, "c=4 m=4": 4_000},
    starts=100,
    forward_generations=3,
    classifier_rounds=4,
    classifier_seconds=3.0,
)
QUICK = Amount(
    path_generations=3,
    wire_generations=2,
    wire_rounds=2,
    wire_requests={"c=1": 500, "c=4 m=4": 2_000},
    starts=20,
    forward_generations=1,
    classifier_rounds=1,
    classifier_seconds=2.0,
)


@dataclass(frozen=True)
class Section:
    """One part of the benchmark: its tables, and its samples for the file of its name."""

    title: str
    text: str
    samples: dict[str, list[dict[str, Any]]]


def main() -> int:
    """Run the benchmark.

    Returns:
        1 if a part could not be measured: nothing is written then.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute or two")
    parser.add_argument("--only", choices=tuple(SECTIONS), nargs="+", help="some of the parts")
    parser.add_argument(
        "--write", action="store_true", help="put the tables in bench/README.md, keep the samples"
    )
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write keeps a full run only")
    sections = []
    for name in options.only or SECTIONS:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            sections.append(SECTIONS[name](QUICK if options.quick else FULL))
        except Exception:
            traceback.print_exc()
    text = "\n\n".join((report.where(), *(f"### {s.title}\n\n{s.text}" for s in sections)))
    print(text)
    if len(sections) < len(options.only or SECTIONS):
        return 1
    if options.write:
        report.replace_between_markers(_BENCH / "README.md", "overhead", text)
        for section in sections:
            for name, samples in section.samples.items():
                report.keep(_BENCH / "overhead" / f"{name}.json", samples)
    return 0


def _rpc_path(kind: str, amount: Amount) -> Section:
    options = ("--generations", str(amount.path_generations))
    found: rpc_path.Samples = _run(
        str(environment.python()), "bench.overhead.rpc_path", kind, *options
    )
    samples = [
        {"arm": arm, "generation": generation, "ns": nanoseconds}
        for arm, generations in found.items()
        for generation, nanoseconds in enumerate(generations)
    ]
    return Section(
        f"CPU added to one unary RPC in the process, {kind}",
        table.rpc_paths({kind: found}),
        {f"rpc_path_{kind}": samples},
    )


def _over_the_wire(kind: str, amount: Amount) -> Section:
    if not h2load.available():
        raise RuntimeError("h2load is missing: run scripts/system-packages bench")
    arms = [arm for arm in rpc_path.KINDS[kind] if arm != PINCHPOINT_SAMPLED]
    found = list(
        over_the_wire.turns(
            kind,
            arms,
            generations=amount.wire_generations,
            rounds=amount.wire_rounds,
            requests=amount.wire_requests,
        )
    )
    turns = [one for one in found if isinstance(one, over_the_wire.Turn)]
    memory = [one for one in found if isinstance(one, over_the_wire.Memory)]
    return Section(
        f"The same server under h2load, and its memory, {kind}",
        f"{table.over_wire(turns)}\n\n{table.memory(memory)}",
        {f"over_the_wire_{kind}": _plain(turns), f"memory_{kind}": _plain(memory)},
    )


def _start_up(amount: Amount) -> Section:
    found = list(start_up.starts(amount.starts))
    return Section(
        "Start-up of a process that imports neither grpc nor torch",
        table.starts(found),
        {"start_up": _plain(found)},
    )


def _forwards(amount: Amount) -> Section:
    options = ("--generations", str(amount.forward_generations))
    answer = _run(sys.executable, "bench.overhead.forwards", *options)
    found = [forwards.Turn(**turn) for turn in answer]
    return Section(
        "One forward of a torch model, one thread, CPU",
        table.torch_forwards(found),
        {"forwards": _plain(found)},
    )


def _classifier(amount: Amount) -> Section:
    found = list(end_to_end.rounds(amount.classifier_rounds, amount.classifier_seconds))
    return Section(
        "The demo's image classifier", table.classifier(found), {"classifier": _plain(found)}
    )


SECTIONS: dict[str, Callable[[Amount], Section]] = {
    "sync-path": lambda amount: _rpc_path("sync", amount),
    "aio-path": lambda amount: _rpc_path("aio", amount),
    "sync-wire": lambda amount: _over_the_wire("sync", amount),
    "aio-wire": lambda amount: _over_the_wire("aio", amount),
    "start-up": _start_up,
    "forwards": _forwards,
    "classifier": _classifier,
}


def _run(python: str, module: str, *options: str) -> Any:
    """What a module of the benchmark prints as JSON."""
    result = subprocess.run(
        [python, "-m", module, *options],
        cwd=environment.REPOSITORY,
        env=environment.variables(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(result.stdout)


def _plain(samples: Iterable[Any]) -> list[dict[str, Any]]:
    return [asdict(sample) for sample in samples]


if __name__ == "__main__":
    raise SystemExit(main())
