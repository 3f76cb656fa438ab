"""`runnerctl status`: asks once, or again and again with --watch, and prints. How it looks is `status_view`."""

import itertools
import time

import click

from runnerd.cli.asking import control_socket_of, fetch
from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.screen import Screen
from runnerd.cli.status_view import show_down, show_status
from runnerd.cli.terminal import open_console
from runnerd.control.status_messages import GetStatus, Status


@click.command(
    epilog="""\b
Examples:
  runnerctl status
  runnerctl status --watch
  runnerctl status --json | jq '.plugins[] | {name, state}'

Exit code 0: healthy, 1: degraded (the problems are listed), 2: down."""
)
@json_option
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1, max=3_600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@pass_target
def command(target: Target, as_json: bool, watch: bool, every_s: float) -> ExitCode:
    """Is everything well: plugins, chains, vaults, open intents, and each problem in words."""
    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together")
    if watch:
        _watch(target, every_s)
    try:
        status = _read(target)
    except CliError as error:
        if as_json:  # a program that parses the answer gets one
            click.echo(to_json({"health": "down", "problems": [str(error)]}))
        raise
    if as_json:
        click.echo(to_json(status))
    else:
        show_status(open_console(), status)
    return ExitCode.DONE if status.health == "healthy" else ExitCode.ATTENTION


def _read(target: Target) -> Status:
    """The status. Silence and nonsense mean down: a status is never refused."""
    try:
        return fetch(target, GetStatus(), Status)
    except CliError as error:
        code = ExitCode.CONFIG if error.exit_code is ExitCode.CONFIG else ExitCode.DOWN
        raise CliError(str(error), code) from error


def _watch(target: Target, every_s: float) -> None:
    """Never returns; Ctrl-C ends it. A daemon that is down is waited for."""
    control_socket_of(target)  # a wrong --config is not worth waiting for
    console = open_console()
    with Screen(console) as screen:
        for _ in itertools.count():
            with screen.frame():
                try:
                    show_status(console, _read(target))
                except CliError as error:
                    show_down(console, str(error))
            time.sleep(every_s)  # what --every asks for
