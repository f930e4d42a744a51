"""The detector: observations in, one verdict a second out.

Theory of operation. `feed` takes records in any order and interleaving; they only move
into the window. Every `HOP_NS` of observed time (a `Tick`) the window is turned into
features and a decomposition, every mechanism is asked, the causes are ranked, and each
label's hysteresis takes its look. The state follows in this order:

1. `bottleneck`: some label is active. Exactly one is primary.
2. `unknown`: no process is attached, or one has fallen silent; slow, and nothing explains
   it; or requests are stuck and none completes. Where no probe has seen enough requests to
   judge by, a server that is read by its own metrics has its say (`served`).
3. `idle`: fewer than 4 requests in the window and nothing in flight.
4. `healthy`.

Only healthy seconds teach the reference, and it is purged when a label appears, because
the fault began before its label.

What would break: reading a clock here (replay would differ from production), or letting a
gap in the records pass for calm (a window without sampled requests makes no claim, and a
hung server is not idle).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pinchpoint.detect.circumstances import Circumstances, consider
from pinchpoint.detect.confirm import Hysteresis
from pinchpoint.detect.decomposition import Decomposition, decompose
from pinchpoint.detect.features import Features, Traffic, extract
from pinchpoint.detect.findings import Finding, Found, RuledOut
from pinchpoint.detect.labels import LABELS
from pinchpoint.detect.mechanisms import MECHANISMS
from pinchpoint.detect.rank import order, rank
from pinchpoint.detect.reference import Figures, Reference, figures
from pinchpoint.detect.served import Served, consider_served
from pinchpoint.detect.thresholds import (
    COMPARED_MIN,
    HARM_RATIO,
    HOP_NS,
    REQUESTS_MIN,
    SILENCE_NS,
    SLOW_RATIO,
    UNATTRIBUTED_MAX,
)
from pinchpoint.detect.window import Window
from pinchpoint.schema.events import LayerEvent, RequestDetail, RequestEvent, StackEvent
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Observation, SourceClosed, SourceOpened, Tick
from pinchpoint.schema.samples import Sample, SignalSample

_WINDOWED = (RequestEvent, RequestDetail, StackEvent, LayerEvent, Sample)


@dataclass(frozen=True)
class Active:
    """A label that is active, with its latest finding."""

    found: Found
    since_ns: int


@dataclass(frozen=True)
class Verdict:
    """What the detector says now."""

    time_ns: int
    wall_ns: int
    state: str = "unknown"
    primary: str = "unknown"
    reason: str = ""
    active: tuple[Active, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    decomposition: Decomposition = field(default_factory=Decomposition)
    features: Features = field(default_factory=lambda: Features(Traffic()))
    reference: Figures | None = None
    utilization_ratio: float | None = None


class Detector:
    """Names the bottleneck of one service.

    Args:
        names: the interned names, learned by whoever feeds the detector.
    """

    def __init__(self, names: Names) -> None:
        self._window = Window(names)
        self._reference = Reference()
        self._labels = {label.type: Hysteresis() for label in LABELS}
        self._latest: dict[str, Found] = {}
        self._slow = Hysteresis()
        self._looked_ns = 0
        self.verdict = Verdict(0, 0, reason="nothing has been observed yet")

    def feed(self, observation: Observation) -> Verdict | None:
        """Take in a record. Returns a new verdict when the record is a tick that is due."""
        source, record = observation
        if isinstance(record, _WINDOWED):
            self._window.add(source, record)
        elif isinstance(record, SourceOpened):
            self._window.open_source(source, record.offset_ns)
        elif isinstance(record, SourceClosed):
            self._window.close_source(source)
        elif isinstance(record, Tick) and record.time_ns - self._looked_ns >= HOP_NS:
            self._looked_ns = record.time_ns
            self.verdict = self._look(record)
            return self.verdict
        return None

    def _look(self, tick: Tick) -> Verdict:
        self._window.advance(tick.time_ns)
        features = extract(self._window)
        traffic = features.traffic
        reference = self._reference.figures()
        circumstances = None
        if traffic.requests >= REQUESTS_MIN:
            circumstances = consider(features, reference)
        findings: list[Finding] = []
        served: Served | None = None
        if circumstances is not None:
            findings = [mechanism(circumstances) for mechanism in MECHANISMS]
        elif served := consider_served(self._window):
            findings, traffic = [served.finding], served.traffic
        found, ruled_out = rank(findings)
        active = self._settle(tick.time_ns, found)
        state, reason = self._state(features, circumstances, served, active)
        self._learn(tick.time_ns, state, features)
        return Verdict(
            time_ns=tick.time_ns,
            wall_ns=tick.wall_ns,
            state=state,
            primary=active[0].found.label.type if state == "bottleneck" else state,
            reason=reason,
            active=active,
            ruled_out=tuple(ruled_out),
            traffic=traffic,
            decomposition=circumstances.decomposition if circumstances else decompose(features),
            features=features,
            reference=reference,
            utilization_ratio=circumstances.utilization if circumstances else None,
        )

    def _settle(self, now_ns: int, found: list[Found]) -> tuple[Active, ...]:
        """The active labels, the primary first: by their rank now, or when last found."""
        now = {finding.label.type: place for place, finding in enumerate(found)}
        for finding in found:
            self._latest[finding.label.type] = finding
        for label_type, hysteresis in self._labels.items():
            was_active = hysteresis.active
            hysteresis.look(now_ns, label_type in now)
            if hysteresis.active and not was_active:
                self._reference.purge(now_ns)
        active = [label_type for label_type, h in self._labels.items() if h.active]
        active.sort(key=lambda name: (now.get(name, len(now)), order(name)))
        return tuple(Active(self._latest[name], self._labels[name].since_ns) for name in active)

    def _state(
        self,
        features: Features,
        c: Circumstances | None,
        served: Served | None,
        active: tuple[Active, ...],
    ) -> tuple[str, str]:
        traffic = features.traffic
        self._slow.look(self._looked_ns, c is not None and _slow(c))
        if active:
            return "bottleneck", active[0].found.summary
        if traffic.requests < REQUESTS_MIN and not self._window.attached:
            return "unknown", self._nobody()
        if self._window.silent_ns() >= SILENCE_NS:
            seconds = self._window.silent_ns() / 1e9
            return "unknown", f"a serving process has said nothing for {seconds:.0f} s: it hangs"
        if served is not None:
            return served.state, served.reason
        if traffic.requests < REQUESTS_MIN:
            if not traffic.in_flight:
                return "idle", f"{traffic.requests} requests in the last 10 s"
            age = traffic.oldest_request_age_seconds
            oldest = f", the oldest for {age:.1f} s" if age is not None else ""
            return "unknown", f"{traffic.in_flight} requests in flight{oldest}, hardly any complete"
        if c is None:
            return "unknown", "too few requests have been sampled to judge"
        if self._slow.active:
            return "unknown", _unexplained(c)
        return "healthy", "nothing is in the way: no cause both matters and does harm"

    def _nobody(self) -> str:
        """What there is instead of a server: adapters that find none, or nothing."""
        missing = {
            self._window.name(source, instance)
            for source, instance, series in self._window.series(SignalSample)
            if series[-1].available == 0
        }
        adapters = sorted(name for name in missing if name.startswith("adapter/"))
        if adapters:
            return f"no server is read: see the signal {', '.join(adapters)}"
        return "no serving process is attached: is the probe in the server?"

    def _learn(self, now_ns: int, state: str, features: Features) -> None:
        second = None
        if state == "healthy" and not any(h.active for h in self._labels.values()):
            recent = [s for s in self._window.details if s.end_ns > now_ns - HOP_NS]
            second = figures(recent, HOP_NS / 1e9, features.cpu_per_request_seconds)
        self._reference.learn(now_ns, second)


def _slow(c: Circumstances) -> bool:
    """Slower than usual at no more than the usual load."""
    if c.reference is None or len(c.features.details) < COMPARED_MIN:
        return False
    usual = c.reference
    loaded = c.figures.requests > usual.requests * HARM_RATIO
    return not loaded and c.figures.latency > SLOW_RATIO * usual.latency


def _unexplained(c: Circumstances) -> str:
    share, component = max(
        (c.decomposition.share(name), name) for name in c.decomposition.components
    )
    times = c.figures.latency / c.reference.latency if c.reference else 0.0
    reason = f"latency is {times:.1f} times its usual; {100 * share:.0f} % of it is {component}"
    if c.decomposition.unattributed_ratio > UNATTRIBUTED_MAX:
        return f"{reason}, too much of it unattributed to name a cause"
    return f"{reason}, and no cause passes its test"
