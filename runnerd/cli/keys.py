"""`runnerctl keys`: who may call plugins over HTTP. A secret is shown once, when its key is made."""

import re
import sys
from datetime import datetime

import click

from runnerd.cli.arguments import Name
from runnerd.cli.asking import PluginName, fetch
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, Column, Row, cell, open_console, show_line, show_listing
from runnerd.cli.text import clock_time
from runnerd.clock import SystemClock
from runnerd.control.key_messages import CreateKey, GetKeys, KeyCreated, Keys, KeyStatus, RevokeKey
from runnerd.control.messages import Done
from runnerd.text import printable

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_STYLES = {"valid": "green", "expired": "yellow", "revoked": "dim"}


class Span(click.ParamType[float]):
    """A length of time such as 90d, as seconds."""

    name = "span"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", str(value))
        if match is None:
            self.fail("must be a number with s, m, h or d, such as 12h or 90d", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]]
        if seconds > 86_400 * 3_660:
            self.fail("must be at most 3660d", param, ctx)
        return float(seconds)


@click.group(
    epilog="""\b
Examples:
  runnerctl keys create indexer --plugin range-maker --expires-in 90d
  runnerctl keys create shop --plugin settle --signing
  runnerctl keys list
  runnerctl keys revoke indexer

A key is for the plugins that it names: its holder may call them, and see what comes of all their calls."""
)
def command() -> None:
    """Make, list and revoke keys of the HTTP API."""


@command.command(epilog="""\b
Examples:
  runnerctl keys create indexer --plugin range-maker --plugin settle --expires-in 90d
  runnerctl keys create shop --plugin settle --signing""")  # fmt: skip
@click.argument("name", type=Name())
@click.option("--plugin", "plugins", type=PluginName(), multiple=True, required=True, help="A plugin that it is for.")
@click.option("--expires-in", "expires_in_s", type=Span(), metavar="SPAN", help="How long it is good, such as 90d.")
@click.option("--signing", "is_signing", is_flag=True, help="Its holder signs each request, and never sends it.")
@json_option
@pass_target
def create(
    target: Target, name: str, plugins: tuple[str, ...], expires_in_s: float | None, is_signing: bool, as_json: bool
) -> None:
    """Make a key, and show its secret once."""
    request = CreateKey(name=name, plugins=list(plugins), is_signing=is_signing, expires_in_s=expires_in_s)
    created = fetch(target, request, KeyCreated)
    if as_json:
        click.echo(to_json(created))
        return
    if sys.stderr.isatty() or not sys.stdout.isatty():
        click.echo("shown once, and not kept; hand it over on a safe way:", err=True)
    click.echo(created.secret)
    for plugin in created.without_webhook:
        click.echo(
            f"{printable(plugin)} has no webhook trigger: requests for it make no call of it until it has", err=True
        )


@command.command("list", epilog="""\b
Examples:
  runnerctl keys list
  runnerctl keys list --json""")  # fmt: skip
@json_option
@pass_target
def list_(target: Target, as_json: bool) -> None:
    """All keys, those that are good no more as well."""
    found = fetch(target, GetKeys(), Keys)
    if as_json:
        click.echo(to_json(found))
        return
    now = SystemClock().now()
    columns = [Column("KEY"), Column("STATE"), Column("KIND"), Column("PLUGINS", is_flexible=True), Column("EXPIRES")]
    console = open_console()
    show_listing(console, columns, [_row(key, now) for key in found.keys])
    if not found.keys:
        show_line(console, cell("none; make one with: runnerctl keys create NAME --plugin PLUGIN", "dim"))


@command.command(epilog="""\b
Examples:
  runnerctl keys revoke indexer""")  # fmt: skip
@click.argument("name")
@pass_target
def revoke(target: Target, name: str) -> None:
    """Take a key out of use, at once and for ever."""
    click.echo(printable(fetch(target, RevokeKey(name=name), Done).text))


def _row(key: KeyStatus, now: datetime) -> Row:
    return Row(
        (
            cell(key.name, "bold"),
            cell(key.state, _STYLES.get(key.state, "")),
            cell(key.kind),
            cell(", ".join(key.plugins)),
            cell(clock_time(key.expires_at, now) if key.expires_at is not None else ABSENT),
        )
    )
