"""`runnerctl outbox`: the table through which an indexer announces events, in its own database.

`install` and `prune` speak to that database themselves; how far the plugins are, only the daemon knows.
"""

from importlib import resources

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict

from runnerd.cli.asking import fetch
from runnerd.cli.configured import load
from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, Column, Row, cell, open_console, show_line, show_listing, show_wrapped
from runnerd.cli.text import duration
from runnerd.control.outbox_messages import FollowerStatus, GetOutbox, Outbox
from runnerd.store.embedded import EmbeddedPostgres
from runnerd.store.reason import connect_reason
from runnerd.text import printable

CONNECT_TIMEOUT_S = 5
MAX_PRUNED = 5_000
"""In one transaction."""

_PRUNE = """
delete from runnerd_outbox.events where entry in (
    select e.entry from runnerd_outbox.events e
    left join unnest(%(topics)s::text[], %(seen)s::bigint[]) as followed (topic, seen) using (topic)
    where e.created_at < now() - make_interval(days => %(days)s) and e.id <= coalesce(followed.seen, e.id)
    order by e.id limit %(most)s
)
"""

dsn_option = click.option(
    "--dsn", metavar="DSN", help="The event database; by default database.event_dsn, or else database.dsn."
)


@click.group(
    epilog="""\b
Examples:
  runnerctl outbox install
  runnerctl outbox install --print | psql indexer
  runnerctl outbox status
  runnerctl outbox prune --older-than-days 30"""
)
def command() -> None:
    """Install, look at and prune the outbox, a table whose rows become calls of plugins."""


@command.command(epilog="""\b
Examples:
  runnerctl outbox install
  runnerctl outbox install --dsn "postgresql://owner@db.example/indexer"
  runnerctl outbox install --print | psql indexer

Makes the schema runnerd_outbox: a table, what numbers its rows, and publish(topic, payload, key) for those who
announce. Changes nothing that is there already. --print shows the SQL instead, with the grants that others
than its owner need. It needs PostgreSQL 13 or newer.""")  # fmt: skip
@dsn_option
@click.option("--print", "is_printed", is_flag=True, help="Print the SQL, for whoever runs that database.")
@pass_target
def install(target: Target, dsn: str | None, is_printed: bool) -> None:
    """Make the table in the event database."""
    text = (resources.files("runnerd.triggers") / "outbox.sql").read_text("utf-8")
    if is_printed:
        click.echo(text, nl=False)
        return
    with _connect(target, dsn) as connection:
        try:
            connection.execute(text.encode())
            row = connection.execute("select id::text from runnerd_outbox.about").fetchone()
        except psycopg.Error as error:
            raise CliError(f"the outbox was not installed: {connect_reason(error)}") from None
        assert row is not None
        click.echo(
            f"outbox {row[0]} is in {printable(connection.info.dbname)}; grants: runnerctl outbox install --print"
        )


@command.command(epilog="""\b
Examples:
  runnerctl outbox status
  runnerctl outbox status --json | jq '.followers[] | select(.events > 1000)'

One line for each plugin and topic: the last event that it was called for or did not want, how many wait for it,
and for how long the first of them has. Exit code 1 while the outbox is not read.""")  # fmt: skip
@json_option
@pass_target
def status(target: Target, as_json: bool) -> ExitCode:
    """How far each plugin has come."""
    outbox = fetch(target, GetOutbox(), Outbox)
    if as_json:
        click.echo(to_json(outbox))
    else:
        console = open_console()
        if outbox.trouble is not None:
            show_wrapped(console, cell(outbox.trouble, "yellow"))
        if outbox.followers:
            columns = [
                Column("PLUGIN", is_flexible=True),
                Column("TOPIC", is_flexible=True),
                Column("AT", is_number=True),
                Column("WAITING", is_number=True),
                Column("SINCE", is_number=True),
                Column("WHY", is_flexible=True),
            ]
            show_listing(console, columns, [_row(one, outbox) for one in outbox.followers])
        else:
            show_line(console, cell("no plugin follows the outbox", "dim"))
    return ExitCode.ATTENTION if outbox.trouble is not None else ExitCode.DONE


def _row(one: FollowerStatus, outbox: Outbox) -> Row:
    since = duration((outbox.now - one.since).total_seconds()) if one.since is not None else ABSENT
    return Row(
        (
            cell(one.plugin, "bold"),
            cell(one.topic),
            cell(ABSENT if one.position is None else str(one.position)),
            cell(ABSENT if one.events is None else str(one.events), "yellow" if one.events else ""),
            cell(since),
            cell(one.waits_for if one.events else "", "dim"),
        )
    )


@command.command(epilog="""\b
Examples:
  runnerctl outbox prune
  runnerctl outbox prune --older-than-days 30 --dsn "postgresql://owner@db.example/indexer"

Deletes only what every plugin of this runnerd that follows its topic has seen, which is why runnerd must be
running. Topics that nobody follows are pruned by age alone; and so is what other runnerds follow: prune on the one
that is furthest behind, or keep events for long.""")  # fmt: skip
@dsn_option
@click.option(
    "--older-than-days", type=click.IntRange(min=0, max=36_500), default=7, show_default=True, metavar="N",
    help="Keep what is younger.",
)  # fmt: skip
@pass_target
def prune(target: Target, dsn: str | None, older_than_days: int) -> None:
    """Delete events that were seen and are old."""
    seen: dict[str, int] = {}
    for one in fetch(target, GetOutbox(), Outbox).followers:
        position = one.position if one.position is not None else 0
        seen[one.topic] = min(seen.get(one.topic, position), position)
    parameters = {"topics": [*seen], "seen": [*seen.values()], "days": older_than_days, "most": MAX_PRUNED}
    pruned = 0
    with _connect(target, dsn) as connection:
        try:
            while (count := connection.execute(_PRUNE, parameters).rowcount) > 0:
                pruned += count
        except psycopg.Error as error:
            raise CliError(f"{pruned} events are deleted, then: {connect_reason(error)}") from None
    click.echo(f"{pruned} events are deleted")


def _connect(target: Target, dsn: str | None) -> "psycopg.Connection[tuple[object, ...]]":
    """The event database. Never shows its DSN: it may hold a password."""
    if dsn is None:
        config = load(target.config)
        dsn = config.database.event_dsn or config.database.dsn
        if dsn is None:  # reachable while runnerd runs
            dsn = EmbeddedPostgres(config.data_dir, config.runtime_dir).dsn
    try:
        place = conninfo_to_dict(dsn).get("dbname", "the default database")
    except psycopg.ProgrammingError:  # its text repeats the string
        raise CliError(
            "that is not a connection string: postgresql://USER@HOST:PORT/DATABASE", ExitCode.USAGE
        ) from None
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.Error as error:
        raise CliError(f"{place}: {connect_reason(error)}") from None
