"""`runnerctl routes`: what leads to which job of which plugin, and the limits that hold there."""

import click

from runnerd.cli.asking import fetch
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, Column, Row, cell, open_console, show_listing
from runnerd.control.status_messages import GetStatus, Status


@click.command(
    epilog="""\b
Examples:
  runnerctl routes
  runnerctl routes --json

A limit is the tightest of [router.layers], of the plugin and of its job, whichever was written first."""
)
@json_option
@pass_target
def command(target: Target, as_json: bool) -> None:
    """What leads to which job, within which limits."""
    routes = fetch(target, GetStatus(), Status).routes
    if as_json:
        click.echo(to_json(routes))
        return
    columns = [
        Column("PLUGIN", is_flexible=True),
        Column("JOB", is_flexible=True),
        Column("ROUTE"),
        Column("OF", is_flexible=True),
        Column("PARALLEL", is_number=True),
        Column("CALLS/S", is_number=True),
        Column("DECIDE", is_number=True),
        Column("DEADLINE", is_number=True),
    ]
    rows = [
        Row(
            (
                cell(route.plugin, "bold"),
                cell(route.job),
                cell(route.kind),
                cell(route.source or ABSENT),
                cell(_number(route.parallel)),
                cell(_number(route.max_calls_per_s)),
                cell(_seconds(route.decide_deadline_s)),
                cell(_seconds(route.call_deadline_s)),
            )
        )
        for route in routes
    ]
    show_listing(open_console(), columns, rows)


def _number(limit: int | None) -> str:
    return ABSENT if limit is None else str(limit)


def _seconds(limit_s: float | None) -> str:
    return ABSENT if limit_s is None else f"{limit_s:g} s"
