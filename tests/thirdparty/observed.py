"""Servers under `pinchpoint run --no-agent`, and the agent that reads their rings.

The agent is on its own so that it outlives a server: once the server has ended and its rings are
read and gone, the counts are final, and a test can demand them to the request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.processes import ANY_PORT, PINCHPOINT, Program, Programs, programs
from tests.integration.scraping import Endpoint, Metrics, endpoint_of
from tests.support.waiting import until

AGENT_TIME = "pinchpoint_agent_cpu_seconds_total"
"""Grows with every snapshot that the agent publishes."""


def under_the_probe(
    rings: Path, *command: object, directory: Path | None = None, **environment: str
) -> list[str]:
    """The command line of a server with the probe in it.

    It sees nothing of our own PYTHONPATH, as in its own container, and whatever goes wrong in the
    probe is on its standard error.
    """
    return [
        "env",
        *([f"--chdir={directory}"] if directory else []),
        "--unset=PYTHONPATH",
        "PINCHPOINT_DEBUG=1",
        *(f"{name}={value}" for name, value in environment.items()),
        *PINCHPOINT,
        "run",
        "--no-agent",
        f"--ring-dir={rings}",
        "--",
        *(str(part) for part in command),
    ]


@dataclass(frozen=True)
class Observed:
    """A directory for rings and the agent that reads it."""

    started: Programs
    rings: Path
    agent: Endpoint

    def serve(self, *command: object, directory: Path | None = None, **environment: str) -> Program:
        """Start a server."""
        return self.started.start(
            *under_the_probe(self.rings, *command, directory=directory, **environment)
        )

    def ring_pids(self) -> list[int]:
        """The process of every ring that is there, by its number."""
        return ring_pids(self.rings)

    def await_count(self, name: str, number: int) -> None:
        """Wait until so many are counted, by a probe of which all parts are on.

        A request is noted after its answer, and a server that is ended at once takes what it has
        not yet noted with it.

        Raises:
            AssertionError: fewer are counted, or a part of the probe is off.
        """
        metrics = self.agent.scrape_when(lambda m: m.total(name) >= number and parts(m))
        assert metrics.total(name) >= number, f"{metrics.total(name)} of {number}"
        off = [part for part, is_on in parts(metrics).items() if not is_on]
        assert not off, f"off: {off}"

    def final(self) -> Metrics:
        """The counts once every server has ended: all rings are read to their end and gone.

        Raises:
            AssertionError: a ring is left.
        """
        assert until(lambda: not self.ring_pids()), f"never removed: {list(self.rings.iterdir())}"
        return self.fresh()

    def fresh(self) -> Metrics:
        """A snapshot that the agent has made after now."""
        before = self.agent.scrape().total(AGENT_TIME)
        return self.agent.scrape_when(lambda metrics: metrics.total(AGENT_TIME) > before)


def ring_pids(rings: Path) -> list[int]:
    """The process of every ring in a directory, by its number."""
    return sorted(int(path.name.split("-")[0]) for path in rings.glob("*.ring"))


@contextmanager
def observed(directory: Path) -> Iterator[Observed]:
    """An agent, without a server yet."""
    rings = directory / "rings"
    rings.mkdir()
    with programs(directory) as started:
        agent = started.start(*PINCHPOINT, "agent", ANY_PORT, f"--ring-dir={rings}")
        yield Observed(started, rings, endpoint_of(agent))


def counts(metrics: Metrics, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """A counter by some of its labels, without the zeros."""
    found: Counter[tuple[str, ...]] = Counter()
    for sample in metrics.samples:
        if sample.name == name and sample.value:
            found[tuple(sample.labels.get(label, "") for label in labels)] += int(sample.value)
    return found


def parts(metrics: Metrics) -> dict[str, bool]:
    """The parts of the probe, and whether each is on in all living servers."""
    return {
        sample.labels["part"]: bool(sample.value)
        for sample in metrics.samples
        if sample.name == "pinchpoint_probe_enabled"
    }


def is_whole(metrics: Metrics) -> bool:
    """Whether nothing was lost, nothing refused and nothing went wrong in the probe."""
    return not (
        metrics.total("pinchpoint_ring_lost_records_total")
        or metrics.total("pinchpoint_ring_errors_total")
        or metrics.total("pinchpoint_probe_errors_total")
    )
