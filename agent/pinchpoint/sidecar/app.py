"""The agent, put together.

Theory of operation. One thread runs the loop; HTTP threads only ever read what it publishes.
Four times a second (`schedule`):

1. Every ring is polled (`attach`). Each arrival goes to the recording, if there is one, and to
   the pipeline, in the same order: that is why `pinchpoint replay` says what the agent said.
2. What other servers' own metrics brought meanwhile is taken in (`adapters`); once a second the
   machine itself is sampled (`host`), as source 0.
3. A `Tick` tells the pipeline the time. When that makes a verdict, a new snapshot replaces the
   published one, and a verdict that differs from the last is one line on standard error.

Rules. Time is read here and nowhere below. Nothing that a ring holds ends the loop: what cannot
be read is counted and said once, and a record that the pipeline chokes on is dropped, counted
and said once too. The recording may stop; the agent goes on. A stop request is answered with
one last poll, so that what a server wrote before it ended is in the last snapshot and in the
recording.

A reload that was asked for (`reload`) happens between two looks and moves neither of them.

What would break: feeding the pipeline from two threads, publishing anything that is changed
later, or polling without a `Tick` after it (records would wait for the next one).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.config.model import Config
from pinchpoint.expose.http import HttpServer, serve
from pinchpoint.expose.state import PublishedState
from pinchpoint.expose.web_options import WebOptions
from pinchpoint.pipeline import Pipeline
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.recording import Tee
from pinchpoint.schema.clock import Anchor
from pinchpoint.schema.frames import Frame, FrameKind
from pinchpoint.schema.observations import AGENT, Observation, Tick
from pinchpoint.schema.wire import pack_sample
from pinchpoint.sidecar.adapters import Adapters
from pinchpoint.sidecar.attach import Rings
from pinchpoint.sidecar.changes import VerdictChanges, verdict_line
from pinchpoint.sidecar.folded import FoldedNames
from pinchpoint.sidecar.host import Host, OwnCosts
from pinchpoint.sidecar.reload import Reloads
from pinchpoint.sidecar.schedule import Schedule
from pinchpoint.sidecar.source import Arrival, made_here
from pinchpoint.snapshot import AgentFacts

HOST_PERIOD_NS = 1_000_000_000


@dataclass(frozen=True)
class AgentOptions:
    """What the agent is told.

    Attributes:
        listen_address: `HOST:PORT`.
        ring_directory: may not exist yet.
        recording: of all that is read; None for none.
        pipeline: caps and histogram bounds.
        web: who may connect.
        adapters: servers whose own metrics are read.
    """

    listen_address: str
    ring_directory: Path
    recording: Path | None = None
    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    web: WebOptions = field(default_factory=WebOptions)
    adapters: tuple[AdapterTarget, ...] = ()


def agent_options(config: Config) -> AgentOptions:
    """What a configuration tells the agent."""
    web = WebOptions(config.web.config_file, config.web.enable_lifecycle, config.histograms.native)
    return AgentOptions(
        config.web.listen_address,
        config.ring_directory,
        config.recording_file,
        config.pipeline,
        web,
        config.adapters,
    )


class Agent:
    """Serves metrics from the moment it exists; `run` is the loop.

    Args:
        options: where to listen, look and record.
        say: takes one line for the operator.
        reloads: of the configuration; without them there is none to reload.

    Raises:
        AddressError: the address cannot be listened on.
        ConfigError: the web configuration cannot be used.
        PinchpointError: the recording cannot be made.
    """

    def __init__(
        self, options: AgentOptions, say: Callable[[str], None], reloads: Reloads | None = None
    ) -> None:
        self._say = say
        self._state = PublishedState()
        self._pipeline = Pipeline(options.pipeline)
        self._changes = VerdictChanges()
        self._folded = FoldedNames(say)
        self._rings = Rings(options.ring_directory, say)
        self._reloads = reloads or Reloads(Config(), None, say)
        self._costs = OwnCosts()
        self._host = Host(say)
        self._schedule = Schedule(time.monotonic_ns())
        self._host_read_ns = 0
        self._host_reads = 0
        self._dropped = 0
        # The address first: an agent that cannot start must not replace an old recording.
        self._http: HttpServer = serve(
            options.listen_address,
            self._state,
            options.web,
            reload=self._reloads.ask_and_wait,
            say=say,
        )
        try:
            self._tee = Tee(options.recording, say) if options.recording else None
        except BaseException:
            self._http.close()
            raise
        self._adapters = Adapters(options.adapters, say)
        say(f"serving metrics on {self._http.url}/metrics, rings in {options.ring_directory}")

    def run(self, wait: Callable[[float], bool]) -> None:
        """Look until told to stop, then look once more.

        Args:
            wait: sleeps for so many seconds or less; False when it is time to stop.
        """
        going = True
        while going:
            going = wait(self._schedule.remaining_ns(time.monotonic_ns()) / 1e9)
            due = self._schedule.advance(time.monotonic_ns())
            self._reloads.run(self._apply)
            if due or not going:
                self._look()

    def close(self) -> None:
        """Stop serving and release everything."""
        self._reloads.close()
        self._http.close()
        self._rings.close()
        self._adapters.close()
        if self._tee is not None:
            self._tee.close()

    def _apply(self, config: Config) -> None:
        """Take over what may change at run time."""
        for arrival in self._adapters.change(config.adapters, time.monotonic_ns()):
            self._take(arrival)

    def _look(self) -> None:
        now = Anchor(time.monotonic_ns(), time.time_ns())
        for arrival in self._rings.poll(now):
            self._take(arrival)
        for arrival in self._adapters.poll():
            self._take(arrival)
        if now.monotonic_ns - self._host_read_ns >= HOST_PERIOD_NS:
            self._host_read_ns = now.monotonic_ns
            self._take(self._host_arrival(now.monotonic_ns))
        self._state.ready = True
        tick = Tick(now.monotonic_ns, now.wall_ns)
        self._take(made_here(AGENT, tick))
        if self._tee is not None:
            self._tee.tick(tick)

    def _host_arrival(self, now_ns: int) -> Arrival:
        self._host_reads += 1
        sample = self._host.read(now_ns)
        frame = Frame(FrameKind.DETAIL, AGENT, pack_sample(self._host_reads, sample))
        return Arrival(Observation(AGENT, sample), frame)

    def _take(self, arrival: Arrival) -> None:
        if self._tee is not None:
            self._tee.write(arrival.frame)
        try:
            verdict = self._pipeline.feed(arrival.observation)
            if verdict is not None:
                self._state.snapshot = snapshot = self._pipeline.snapshot(self._facts())
                self._folded.look(snapshot.folded)
        except Exception as error:
            self._drop(arrival.observation, error)
            return
        if verdict is not None and self._changes.is_change(verdict):
            self._say(verdict_line(verdict))

    def _drop(self, observation: Observation, error: Exception) -> None:
        self._dropped += 1
        if self._dropped == 1:
            self._say(
                f"a {type(observation.record).__name__} of source {observation.source} could not "
                f"be processed ({type(error).__name__}: {error}); such records are counted and "
                "left out: please report this"
            )

    def _facts(self) -> AgentFacts:
        return AgentFacts(
            cpu_seconds=self._costs.cpu_seconds(),
            resident_bytes=self._costs.resident_bytes(),
            start_wall_seconds=self._costs.start_wall_seconds,
            tick_lateness_seconds=self._schedule.lateness_ns / 1e9,
            rings_attached=self._rings.attached,
            ring_errors=self._rings.errors + self._dropped,
            ready=self._state.ready,
            config_reload_successful=self._reloads.successful,
            config_reload_success_wall_seconds=self._reloads.success_wall_seconds,
        )
