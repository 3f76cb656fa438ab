"""`runnerctl consumers`: who hears of results, how far each is, and the results that were given up."""

from datetime import datetime

import click

from runnerd.cli.arguments import CallNumber
from runnerd.cli.asking import ConsumerName, fetch
from runnerd.cli.exits import ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, Column, Row, cell, open_console, show_line, show_listing, word
from runnerd.cli.text import clock_time, duration
from runnerd.clock import SystemClock
from runnerd.control.consumer_messages import (
    MAX_LETTERS,
    Consumers,
    ConsumerStatus,
    DeadLetter,
    DeadLetters,
    DropDeadLetters,
    ForgetConsumer,
    GetConsumers,
    GetDeadLetters,
    RetryDeadLetters,
)
from runnerd.control.messages import Done
from runnerd.text import printable


@click.group(
    epilog="""\b
Examples:
  runnerctl consumers list
  runnerctl consumers dead hook
  runnerctl consumers retry hook --all
  runnerctl consumers drop hook 1201 1207

A consumer hears of each JobResult at its own pace. What it does not take in twelve attempts, over about six minutes,
or refuses, is a dead letter: it is kept, and the next result goes out."""
)
def command() -> None:
    """See who hears of results, and retry or drop what was given up."""


@command.command("list", epilog="""\b
Examples:
  runnerctl consumers list
  runnerctl consumers list --json | jq '.consumers[] | select(.waiting > 100)'

Exit code 1 while one of them is in trouble, or has dead letters.""")  # fmt: skip
@json_option
@pass_target
def list_(target: Target, as_json: bool) -> ExitCode:
    """All consumers, and how many results wait for each."""
    found = fetch(target, GetConsumers(), Consumers)
    if as_json:
        click.echo(to_json(found))
    else:
        console = open_console()
        if found.consumers:
            columns = [
                Column("CONSUMER", is_flexible=True),
                Column("KIND"),
                Column("WAITING", is_number=True),
                Column("DEAD", is_number=True),
                Column("HEARD", is_number=True),
                Column("TROUBLE", is_flexible=True),
            ]
            show_listing(console, columns, [_row(one, found.now) for one in found.consumers])
        else:
            show_line(console, cell("no [consumers.NAME] is configured", "dim"))
    return ExitCode.ATTENTION if any(one.trouble or one.dead for one in found.consumers) else ExitCode.DONE


def _row(one: ConsumerStatus, now: datetime) -> Row:
    ago = f"{duration((now - one.moved_at).total_seconds())} ago" if one.moved_at is not None else ABSENT
    return Row(
        (
            cell(one.name, "bold"),
            cell(one.kind or ABSENT),
            cell(str(one.waiting), "yellow" if one.waiting else ""),
            cell(str(one.dead), "bold red" if one.dead else ""),
            cell(ago),
            cell(one.trouble or "", "yellow"),
        )
    )


@command.command(epilog="""\b
Examples:
  runnerctl consumers dead
  runnerctl consumers dead hook --limit 100 --json""")  # fmt: skip
@click.argument("consumer", type=ConsumerName(), required=False)
@click.option(
    "--limit", type=click.IntRange(min=1, max=MAX_LETTERS), default=20, show_default=True, metavar="N",
    help="How many, newest first.",
)  # fmt: skip
@json_option
@pass_target
def dead(target: Target, consumer: str | None, limit: int, as_json: bool) -> None:
    """The results that were given up, of one consumer or of all."""
    found = fetch(target, GetDeadLetters(consumer=consumer, limit=limit), DeadLetters)
    if as_json:
        click.echo(to_json(found))
        return
    console = open_console()
    if not found.letters:
        show_line(console, cell("nothing was given up", "dim"))
        return
    columns = [
        Column("CONSUMER", is_flexible=True),
        Column("CALL", is_number=True),
        Column("PLUGIN", is_flexible=True),
        Column("OUTCOME"),
        Column("AT"),
        Column("TRIES", is_number=True),
        Column("WHY", is_flexible=True),
    ]
    now = SystemClock().now()
    show_listing(console, columns, [_letter(one, now) for one in found.letters])


def _letter(one: DeadLetter, now: datetime) -> Row:
    why = f"handed over once more; {one.reason}" if one.is_wanted else one.reason
    return Row(
        (
            cell(one.consumer, "bold"),
            cell(str(one.call_id)),
            cell(one.plugin),
            word(one.outcome),
            cell(clock_time(one.at, now)),
            cell(str(one.attempts)),
            cell(why, "dim"),
        )
    )


all_option = click.option("--all", "is_all", is_flag=True, help="All that were given up for it.")
calls_argument = click.argument("call_ids", type=CallNumber(), nargs=-1, metavar="[CALL]...")


@command.command(epilog="""\b
Examples:
  runnerctl consumers retry hook 1201
  runnerctl consumers retry hook --all

Each gets one attempt, before the results that are new. What fails is a dead letter as before.""")  # fmt: skip
@click.argument("consumer", type=ConsumerName())
@calls_argument
@all_option
@pass_target
def retry(target: Target, consumer: str, call_ids: tuple[int, ...], is_all: bool) -> None:
    """Hand dead letters over once more."""
    request = RetryDeadLetters(consumer=consumer, call_ids=_chosen(call_ids, is_all))
    click.echo(printable(fetch(target, request, Done).text))


@command.command(epilog="""\b
Examples:
  runnerctl consumers drop hook 1201
  runnerctl consumers drop hook --all

The results themselves stay in the ledger: runnerctl runs.""")  # fmt: skip
@click.argument("consumer", type=ConsumerName())
@calls_argument
@all_option
@pass_target
def drop(target: Target, consumer: str, call_ids: tuple[int, ...], is_all: bool) -> None:
    """Forget dead letters."""
    request = DropDeadLetters(consumer=consumer, call_ids=_chosen(call_ids, is_all))
    click.echo(printable(fetch(target, request, Done).text))


@command.command(epilog="""\b
Examples:
  runnerctl consumers forget old-hook

One of this name that is configured later begins with the results of then. Without this it would go on where it
was.""")  # fmt: skip
@click.argument("consumer", type=ConsumerName())
@pass_target
def forget(target: Target, consumer: str) -> None:
    """Forget the place and the dead letters of one that is not configured any more."""
    click.echo(printable(fetch(target, ForgetConsumer(consumer=consumer), Done).text))


def _chosen(call_ids: tuple[int, ...], is_all: bool) -> list[int] | None:
    if is_all == bool(call_ids):
        raise click.UsageError("name calls, or --all")
    return list(call_ids) or None
