"""`python -m bench.agent`: measure, print the tables, and with --write keep them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.agent import hour, live, scrape, tables, threads
from bench.overhead import environment

_BENCH = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    turns: int
    live_seconds: int
    minutes: int
    scrapes: int
    threads_seconds: int


FULL = Amount(turns=30, live_seconds=60, minutes=60, scrapes=40, threads_seconds=10)
QUICK = Amount(turns=5, live_seconds=15, minutes=10, scrapes=10, threads_seconds=5)


@dataclass(frozen=True)
class Section:
    """One part of the benchmark: its table, what of it has a target, and its samples."""

    title: str
    text: str
    targets: list[tables.Row]
    samples: list[dict[str, Any]]


def main() -> int:
    """Run the benchmark.

    Returns:
        1 if a part could not be measured: nothing is written then.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.agent", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: two minutes")
    parser.add_argument("--only", choices=tuple(SECTIONS), nargs="+", help="some of the parts")
    parser.add_argument(
        "--write", action="store_true", help="put the tables in bench/README.md, keep the samples"
    )
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write keeps a full run only")
    sections: dict[str, Section] = {}
    names: Iterable[str] = options.only or SECTIONS
    for name in names:
        _say(name)
        try:
            sections[name] = SECTIONS[name](QUICK if options.quick else FULL)
        except Exception:
            traceback.print_exc()
    targets = [row for section in sections.values() for row in section.targets]
    parts = [f"### {section.title}\n\n{section.text}" for section in sections.values()]
    text = "\n\n".join((report.where(), tables.summary(targets), *parts))
    print(text)
    if len(sections) < len(list(names)):
        return 1
    if options.write:
        report.replace_between_markers(_BENCH / "README.md", "agent", text)
        for name, section in sections.items():
            report.keep(_BENCH / "agent" / f"{name}.json", section.samples)
    return 0


def _reading(amount: Amount) -> Section:
    (line,) = _run("bench.agent.reading", "--turns", str(amount.turns))
    turns: list[dict[str, float]] = json.loads(line)
    return Section("Reading a ring", tables.read(turns), tables.read_targets(turns), turns)


def _live(amount: Amount) -> Section:
    found = list(live.seconds(amount.live_seconds, _say))
    return Section(
        "The agent beside a server with 1,000 requests/s",
        tables.agents(found),
        tables.agent_targets(found),
        [asdict(second) for second in found],
    )


def _hour(amount: Amount) -> Section:
    steps = []
    for line in _run("bench.agent.hour", "--minutes", str(amount.minutes)):
        steps.append(hour.Step(**json.loads(line)))
        _say(f"minute {steps[-1].minutes} of {amount.minutes}")
    return Section(
        "An hour of records, as fast as they are read",
        tables.replayed(steps),
        tables.replay_targets(steps),
        [asdict(step) for step in steps],
    )


def _scrape(amount: Amount) -> Section:
    found = list(scrape.renderings(amount.scrapes))
    return Section(
        "A scrape",
        tables.scrapes(found),
        tables.scrape_targets(found),
        [asdict(one) for one in found],
    )


def _threads(amount: Amount) -> Section:
    found = list(threads.shares(amount.threads_seconds, _say))
    return Section(
        "The probe's threads in a server with 64 threads",
        tables.probe_threads(found),
        tables.probe_targets(found),
        [asdict(one) for one in found],
    )


SECTIONS: dict[str, Callable[[Amount], Section]] = {
    "reading": _reading,
    "live": _live,
    "hour": _hour,
    "scrape": _scrape,
    "threads": _threads,
}


def _run(module: str, *options: str) -> Iterator[str]:
    """The lines that a module of the benchmark prints, as they come."""
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(
        command,
        cwd=environment.REPOSITORY,
        env=environment.variables(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")


def _say(progress: str) -> None:
    print(f"{progress} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
