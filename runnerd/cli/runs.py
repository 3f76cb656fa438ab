"""`runnerctl runs`: the last calls of all plugins or of one, with what came of them."""

from datetime import datetime
from typing import Final

import click
from rich.console import Console

from runnerd.cli.asking import PluginName, fetch
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, Column, Row, cell, open_console, show_line, show_listing, uncut, word
from runnerd.cli.text import clock_time, milliseconds
from runnerd.clock import SystemClock
from runnerd.control.record_messages import GetRuns, Run, Runs

NARROW: Final = 100
"""Below this a reason has a line of its own."""
WIDE: Final = 170
"""From here on a hash has room on the line of its call."""


@click.command(
    epilog="""\b
Examples:
  runnerctl runs
  runnerctl runs --plugin range-maker -n 100
  runnerctl runs --json | jq '.runs[] | select(.outcome == "denied")'

Newest first, times in UTC. For the whole reason and the actions: runnerctl why PLUGIN."""
)
@click.option("--plugin", type=PluginName(), help="Only the calls of this plugin.")
@click.option("-n", "limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many.")
@json_option
@pass_target
def command(target: Target, plugin: str | None, limit: int, as_json: bool) -> None:
    """The last calls and what came of them."""
    runs = fetch(target, GetRuns(plugin=plugin, limit=limit), Runs)
    if as_json:
        click.echo(to_json(runs))
    else:
        show_runs(open_console(), runs.runs, SystemClock().now())


def show_runs(console: Console, runs: list[Run], now: datetime) -> None:
    """Print one line a call, and below it what has no room on it: the hash, on narrow terminals the reason."""
    if not runs:
        show_line(console, cell("no calls yet", "dim"))
        return
    is_wide, is_narrow = console.width >= WIDE, console.width < NARROW
    columns = [
        Column("CALL", is_number=True),
        Column("PLUGIN", is_flexible=True, max_width=26),
        Column("TRIGGER", is_flexible=True, max_width=26),
        Column("FIRED (UTC)"),
        Column("TOOK", is_number=True),
        Column("OUTCOME"),
        *([Column("TRANSACTION")] if is_wide else []),
        *([] if is_narrow else [Column("REASON", is_flexible=True)]),
    ]
    rows = []
    for run in runs:
        cells = [
            cell(str(run.id)),
            cell(run.plugin, "bold"),
            cell(f"{run.trigger} {run.topic}" if run.topic else run.trigger),
            cell(clock_time(run.fired_at, now), "dim"),
            cell(_took(run)),
            word(run.outcome or run.intent_state or run.state),
            *([cell(run.transaction or ABSENT)] if is_wide else []),
            *([] if is_narrow else [cell(run.reason or "")]),
        ]
        below = [
            *([cell(run.reason)] if run.reason and is_narrow else []),
            *([uncut(run.transaction, "dim")] if run.transaction and not is_wide else []),
        ]
        rows.append(Row(tuple(cells), tuple(below)))
    show_listing(console, columns, rows)


def _took(run: Run) -> str:
    if run.finished_at is None:
        return ABSENT
    return milliseconds((run.finished_at - run.fired_at).total_seconds() * 1_000)
