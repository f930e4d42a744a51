"""`pinchpoint replay`: the agent's pipeline over a recording."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pinchpoint.commands.say import say
from pinchpoint.detect.verdict import Verdict
from pinchpoint.expose.api import verdict_json
from pinchpoint.pipeline import Pipeline
from pinchpoint.recording import Recording
from pinchpoint.schema.observations import Observation, Tick
from pinchpoint.sidecar.changes import VerdictChanges, verdict_line
from pinchpoint.snapshot import AgentFacts


class ReplayCommand:
    """Says again what the agent said."""

    name = "replay"
    help = "say again what the agent said, from a recording"
    usage = "pinchpoint replay FILE [--json]"
    description = """\
Runs a recording (made with --record) through exactly the pipeline of the agent and prints a line
for each change of the verdict, with the seconds since the recording began, and a last line that
sums up. The same file gives the same bytes on every machine.
"""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("file", metavar="FILE", type=Path, help="a recording")
        parser.add_argument(
            "--json",
            action="store_true",
            help="each change as the JSON document of /api/v1/verdict, one a line, no summary",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Replay."""
        recording = Recording(arguments.file)
        replay = _Replay(arguments.json)
        for observation in recording:
            replay.feed(observation)
        if not arguments.json:
            print(replay.summary())
        warn_of_missing_end(recording)
        return 0


class _Replay:
    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._pipeline = Pipeline()
        self._changes = VerdictChanges()
        self._first_ns: int | None = None
        self._last_ns = 0

    def feed(self, observation: Observation) -> None:
        if isinstance(observation.record, Tick):
            self._last_ns = observation.record.time_ns
            if self._first_ns is None:
                self._first_ns = self._last_ns
        verdict = self._pipeline.feed(observation)
        if verdict is not None and self._changes.is_change(verdict):
            print(self._told(verdict))

    def summary(self) -> str:
        """What the whole recording held."""
        snapshot = self._pipeline.snapshot(AgentFacts())
        handled = sum(sum(method.handled.values()) for method in snapshot.methods)
        named = ", ".join(
            f"{label} {seconds:.0f} s"
            for label, seconds in snapshot.bottleneck_seconds.items()
            if seconds
        )
        return (
            f"{self._elapsed():.1f} s, {snapshot.records} records, "
            f"{sum(snapshot.lost.values())} lost, {handled} requests; "
            f"bottlenecks: {named or 'none'}"
        )

    def _elapsed(self) -> float:
        return (self._last_ns - (self._first_ns or 0)) / 1e9

    def _told(self, verdict: Verdict) -> str:
        if not self._as_json:
            return f"{self._elapsed():9.3f} {verdict_line(verdict)}"
        return json.dumps(verdict_json(self._pipeline.snapshot(AgentFacts())))


def warn_of_missing_end(recording: Recording) -> None:
    """Say so when the last frame was not whole: the agent was killed or its disk was full."""
    if recording.missing_from is not None:
        say(
            f"the end of {recording.path} is missing (from byte {recording.missing_from}); "
            "everything before it was read"
        )
