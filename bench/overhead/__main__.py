"""`python -m bench.overhead`: measure, print the tables, and with --write keep them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from datetime import date
from pathlib import Path

from bench.overhead import end_to_end, per_call, table

_BENCH = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="rounds of three servers each")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    parser.add_argument(
        "--write", action="store_true", help="put the tables in bench/README.md, keep the samples"
    )
    options = parser.parse_args()
    paths = per_call.measure()
    results = []
    for result in end_to_end.rounds(options.rounds, options.seconds):
        results.append(result)
        print(
            f"round {result.round} {result.arm:11s} "
            f"{result.together.requests_per_second:6.1f} requests/s, "
            f"p50 {result.alone.p50_seconds * 1e3:.2f} ms",
            flush=True,
        )
    cpu = _cpu_model()
    where = (
        f"{date.today()}, {os.cpu_count()} CPUs ({cpu}), Python {platform.python_version()}, "
        f"{options.rounds} rounds of {options.seconds:.0f} s."
    )
    text = f"{where}\n\n{table.end_to_end(results)}\n\n{table.per_call(paths)}"
    print(f"\n{text}")
    if options.write:
        table.replace_between_markers(_BENCH / "README.md", text)
        samples = {"where": where, "per_call_ns": paths, "rounds": list(map(_plain, results))}
        path = _BENCH / "overhead" / "samples.json"
        path.write_text(json.dumps(samples, indent=1) + "\n", "utf-8")
    return 0


def _plain(result: end_to_end.Round) -> dict[str, object]:
    return dataclasses.asdict(result)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
