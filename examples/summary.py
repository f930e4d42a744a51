"""The table at the end of the demo."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from examples.numbers_as_text import count, milliseconds, percent
from examples.results import MAX_SECONDS_UNTIL_LABEL, Outcome, Results


def print_summary(console: Console, results: Results) -> None:
    """Print what was injected, what was said, and what the client saw meanwhile."""
    if results.outcomes:
        console.print(_table(results.outcomes))
    if results.client is not None:
        console.print(_client_line(results.client))
    if results.mean_unattributed_ratio is not None:
        console.print(
            f"Latency nobody can explain: {percent(results.mean_unattributed_ratio)} on average."
        )
    for note in results.notes:
        console.print(f"Note: {note}", markup=False)
    for failure in results.failures:
        console.print(f"Failed: {failure}", style="red", markup=False)
    console.print("Passed." if results.passed else "Not passed.", style="bold")


def _table(outcomes: list[Outcome]) -> Table:
    # Columns just wide enough for 80 characters; longer names go on in the next line.
    table = Table(
        caption=f"Seconds after injection and removal; a label counts within "
        f"{MAX_SECONDS_UNTIL_LABEL:.0f} s.",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for title in ("injected", "expected", "labelled as"):
        table.add_column(title, overflow="fold")
    table.add_column("label", justify="right", no_wrap=True)
    table.add_column("healthy", justify="right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(
            outcome.fault,
            outcome.expected,
            f"[green]✓ {outcome.labelled_as}[/]"
            if outcome.passed
            else f"[red]✗ {outcome.labelled_as}[/]",
            count(outcome.seconds_until_label, 1),
            count(outcome.seconds_until_healthy, 1),
        )
    return table


def _client_line(client: dict[str, Any]) -> str:
    codes: dict[str, int] = client.get("codes", {})
    errors = {code: number for code, number in codes.items() if code != "OK"}
    described = ", ".join(f"{number} {code}" for code, number in errors.items())
    return (
        f"Client: {client.get('sent')} requests, "
        f"{sum(errors.values())} errors{f' ({described})' if described else ''}, "
        f"{client.get('dropped')} dropped, {client.get('unfinished')} unfinished; "
        f"p50 {milliseconds(client.get('p50_seconds'))}, "
        f"p99 {milliseconds(client.get('p99_seconds'))} from the intended send time; "
        f"send lateness p99 {milliseconds(client.get('send_lateness_p99_seconds'))}."
    )
