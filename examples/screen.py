"""The demo on a terminal: one screen that says what is wrong, why, and what to do about it."""

from __future__ import annotations

from types import TracebackType

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.numbers_as_text import ABSENT, clock, count, milliseconds, percent
from examples.scenario import Event, Moment
from examples.verdict import BOTTLENECK, HEALTHY, Primary, Share, Verdict

_COMPONENT_COLOURS = {
    "core_wait": "khaki3",
    "queue": "yellow3",
    "cpu": "green3",
    "runqueue": "dark_orange",
    "throttled": "red3",
    "gil": "magenta3",
    "gc": "medium_purple",
    "memory": "hot_pink",
    "disk": "orange4",
    "downstream": "deep_sky_blue1",
    "lock": "blue3",
    "send": "steel_blue",
    "device": "spring_green2",
    "batch": "gold3",
    "unattributed": "grey50",
}
_OTHER_COLOUR = "white"
_COMPONENT_TITLES = {
    "core_wait": "wait in gRPC core",
    "queue": "queue",
    "cpu": "CPU",
    "runqueue": "run queue",
    "throttled": "throttled",
    "gil": "GIL",
    "gc": "garbage collection",
    "downstream": "dependency",
    "unattributed": "unattributed",
}
_EVENT_STYLES = {"info": "default", "fault": "bold yellow", "good": "green", "bad": "bold red"}
_EVENT_SIGNS = {"info": "·", "fault": "▼", "good": "✓", "bad": "✗"}


class ScreenView:
    """A full-screen view; a context manager that gives the terminal back."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> ScreenView:
        self._live.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, moment: Moment) -> None:
        """Draw this moment."""
        self._live.update(self.render(moment), refresh=True)

    def render(self, moment: Moment) -> Layout:
        """Return the whole screen, fitted to the terminal as it is now."""
        verdict = moment.verdict
        width, height = self._console.size
        roomy = height >= 32
        layout = Layout()
        layout.split_column(
            Layout(self._header(moment), size=1),
            Layout(_traffic_panel(verdict), size=3),
            Layout(_shares_panel(verdict, width), size=7 if roomy else 6),
            Layout(_verdict_panel(verdict), name="verdict", ratio=3, minimum_size=8),
            Layout(_timeline_panel(moment, height), size=11 if roomy else 6),
        )
        return layout

    def _header(self, moment: Moment) -> RenderableType:
        line = Table.grid(expand=True)
        line.add_column()
        line.add_column(justify="right")
        line.add_row(
            Text.assemble(("Pinchpoint ", "bold"), (self._title, "dim")),
            Text.assemble((moment.step, "bold"), ("  ", ""), (clock(moment.time_s), "dim")),
        )
        return line


def _traffic_panel(verdict: Verdict | None) -> Panel:
    if verdict is None:
        return _panel("traffic", Text("the agent has not answered yet", "dim"))
    traffic = verdict.traffic
    workers = f"{count(traffic.workers_busy, 1)}/{count(traffic.workers)}"
    cells = (
        ("rate", f"{count(traffic.requests_per_second, 1)}/s"),
        ("p50", milliseconds(traffic.p50_seconds)),
        ("p99", milliseconds(traffic.p99_seconds)),
        ("in flight", count(traffic.in_flight)),
        ("queued", count(traffic.queued)),
        ("busy", workers),
    )
    row = Table.grid(expand=True)
    for _ in cells:
        row.add_column(ratio=1, no_wrap=True)
    row.add_row(*(Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in cells))
    return _panel("traffic", row)


def _shares_panel(verdict: Verdict | None, width: int) -> Panel:
    if verdict is None or not verdict.shares:
        return _panel("where the time goes", Text("not known yet", "dim"))
    columns = width - 4
    lines: list[RenderableType] = [_bar(verdict.shares, columns)]
    lines.append(_legend(verdict.shares, columns))
    if verdict.stages:
        stages = "  ".join(
            f"{stage.name} {milliseconds(stage.seconds)}" for stage in verdict.stages
        )
        lines.append(Text(f"stages  {stages}", "dim", no_wrap=True, overflow="ellipsis"))
    unattributed = f"unattributed {percent(verdict.unattributed_ratio)}"
    return _panel("where the time goes", Group(*lines), subtitle=unattributed)


def _bar(shares: tuple[Share, ...], columns: int) -> Text:
    """Return one line whose coloured runs are as long as the shares are large."""
    total = max(1.0, sum(share.ratio for share in shares))
    bar = Text(no_wrap=True)
    position = 0.0
    for share in shares:
        start = round(position)
        position += share.ratio / total * columns
        bar.append("█" * (round(position) - start), _colour(share))
    return bar


def _legend(shares: tuple[Share, ...], columns: int) -> Text:
    legend = Text()
    used = 0
    lines = 1
    for share in shares:
        title = _COMPONENT_TITLES.get(share.name, share.name)
        entry = f"{title} {percent(share.ratio)} {milliseconds(share.seconds)}"
        entry_columns = len(entry) + 5
        if used + entry_columns > columns + 3:
            # Shares come sorted, so what does not fit is the least of them.
            if lines == 2:
                break
            lines += 1
            used = 0
            legend.append("\n")
        legend.append("■ ", _colour(share))
        legend.append(f"{entry}   ")
        used += entry_columns
    return legend


def _verdict_panel(verdict: Verdict | None) -> Panel:
    if verdict is None:
        return _panel("verdict", Text("waiting for the agent", "dim"))
    primary = verdict.primary
    style = _state_style(verdict)
    headline = Text.assemble((primary.type.upper(), f"bold {style}"))
    if verdict.state == BOTTLENECK:
        headline.append(f"  {primary.state}", style)
        headline.append(f"  owner: {primary.owner or ABSENT}", "dim")
        if primary.mean_latency_reduction_ratio is not None:
            gain = percent(primary.mean_latency_reduction_ratio)
            headline.append(f"  without it: -{gain} latency", "dim")
    lines: list[RenderableType] = [headline]
    if primary.summary:
        lines.append(Text(primary.summary))
    lines.append(_because(primary))
    if verdict.also_active:
        lines.append(Text(f"also active: {', '.join(verdict.also_active)}", "dim"))
    missing = ", ".join(verdict.missing_signals)
    return _panel(
        "verdict",
        Group(*lines),
        style=style,
        subtitle=f"not readable here: {missing}" if missing else None,
    )


def _because(primary: Primary) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    # Evidence and remedies take turns, so that a small screen shows some of both.
    for index in range(max(len(primary.evidence), len(primary.remedies))):
        if index < len(primary.evidence):
            table.add_row("why", Text(primary.evidence[index]))
        if index < len(primary.remedies):
            table.add_row("do", Text(primary.remedies[index], "cyan"))
    return table


def _timeline_panel(moment: Moment, height: int) -> Panel:
    room = 9 if height >= 32 else 4
    lines = [_event_line(event) for event in moment.events[-room:]]
    return _panel("what happened", Group(*lines))


def _event_line(event: Event) -> Text:
    style = _EVENT_STYLES[event.kind]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{clock(event.time_s):>5} ", "dim")
    line.append(f"{_EVENT_SIGNS[event.kind]} {event.text}", style)
    return line


def _state_style(verdict: Verdict) -> str:
    if verdict.state == HEALTHY:
        return "green"
    if verdict.state == BOTTLENECK:
        return "red" if verdict.primary.state == "confirmed" else "yellow"
    return "default"


def _colour(share: Share) -> str:
    return _COMPONENT_COLOURS.get(share.name, _OTHER_COLOUR)


def _panel(
    title: str, content: RenderableType, style: str = "dim", subtitle: str | None = None
) -> Panel:
    return Panel(
        content,
        title=f"[not dim]{title}[/]",
        title_align="left",
        subtitle=subtitle,
        subtitle_align="right",
        border_style=style,
        box=ROUNDED,
        padding=(0, 1),
    )
