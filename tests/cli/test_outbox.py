"""`runnerctl outbox`: what it installs and prunes in a database, what it asks the daemon, what it refuses."""

import json
from pathlib import Path

import psycopg
import pytest

from runnerd.cli.exits import ExitCode
from runnerd.control.messages import Reply, Request
from runnerd.control.outbox_messages import FollowerStatus, GetOutbox, Outbox
from tests.cli.configs import write_config
from tests.cli.running import invoke
from tests.cli.samples import NOW, ago
from tests.support.fake_daemon import fake_daemon
from tests.support.outbox_bench import events, install, outbox_sql, publish

FOLLOWERS = [
    FollowerStatus(
        plugin="alpha", topic="flow", position=3, events=2, since=ago(300), waits_for="it takes no calls now"
    ),
    FollowerStatus(plugin="beta", topic="flow", position=5, events=0, since=None),
    FollowerStatus(plugin="beta", topic="new", position=None, events=None, since=None),
]


def followed(request: Request) -> Reply:
    assert isinstance(request, GetOutbox)
    return Outbox(now=NOW, followers=FOLLOWERS)


def test_install_makes_it_once_and_says_which(database: str) -> None:
    """A second time it is the same one."""
    first = invoke("outbox", "install", "--dsn", database)
    assert first.exit_code == ExitCode.DONE
    publish(database, ("flow", "x"))
    second = invoke("outbox", "install", "--dsn", database)
    assert second.stdout == first.stdout
    assert first.stdout.startswith("outbox ")
    assert [payload for *_, payload in events(database)] == ["x"]


@pytest.mark.parametrize("keys", ['event_dsn = "{}"', 'dsn = "{}"', 'dsn = "host=/nowhere"\nevent_dsn = "{}"'])
def test_install_takes_the_event_database_of_the_configuration(database: str, tmp_path: Path, keys: str) -> None:
    """`event_dsn`, or else `dsn`."""
    config = write_config(tmp_path, extra=f"[database]\n{keys.format(database)}")
    assert invoke("--config", str(config), "outbox", "install").exit_code == ExitCode.DONE
    publish(database, ("flow", "x"))


def test_print_shows_the_sql_and_touches_nothing(tmp_path: Path) -> None:
    """Without any configuration: for whoever runs that database; with the grants that others need."""
    result = invoke("--config", str(tmp_path / "none.toml"), "outbox", "install", "--print")
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, outbox_sql())
    assert "grant select on all tables in schema runnerd_outbox" in result.stdout


@pytest.mark.parametrize(
    "dsn,code",
    [("postgresql://me:secret@127.0.0.1:1/indexer", ExitCode.ATTENTION), ("not a dsn secret", ExitCode.USAGE)],
)
@pytest.mark.parametrize("command", ["install"])
def test_database_that_cannot_be_reached_is_said_without_its_password(command: str, dsn: str, code: ExitCode) -> None:
    """One line."""
    result = invoke("outbox", command, "--dsn", dsn)
    assert result.exit_code == code
    assert result.stderr.startswith("runnerctl: ")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr


def test_install_without_the_right_to_is_refused_in_one_line(database: str) -> None:
    """Nothing is half there."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("create role outbox_nobody login")
    try:
        result = invoke("outbox", "install", "--dsn", f"{database} user=outbox_nobody")
        assert result.exit_code == ExitCode.ATTENTION
        assert "the outbox was not installed: permission denied" in result.stderr
        with psycopg.connect(database, autocommit=True) as owner:
            assert owner.execute("select to_regnamespace('runnerd_outbox')").fetchone() == (None,)
    finally:
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("drop role outbox_nobody")


def test_status_shows_what_waits_for_whom(socket: Path) -> None:
    """Since when, and why."""
    with fake_daemon(socket, followed):
        result = invoke("--socket", str(socket), "outbox", "status")
        as_json = json.loads(invoke("--socket", str(socket), "outbox", "status", "--json").stdout)
    assert result.exit_code == ExitCode.DONE
    head, *rows = (line.split(maxsplit=5) for line in result.stdout.splitlines())
    assert head == ["PLUGIN", "TOPIC", "AT", "WAITING", "SINCE", "WHY"]
    assert " ".join(rows[0]).replace("  ", " ") == "alpha flow 3 2 5 min it takes no calls now"
    assert rows[1][:4] == ["beta", "flow", "5", "0"]
    assert as_json["followers"][0]["events"] == 2


def test_status_of_an_outbox_that_is_not_read_says_so(socket: Path) -> None:
    """With exit code 1, as for a degraded daemon."""
    with fake_daemon(socket, lambda _: Outbox(now=NOW, followers=[], trouble="there is no outbox")):
        result = invoke("--socket", str(socket), "outbox", "status")
    assert result.exit_code == ExitCode.ATTENTION
    assert "there is no outbox" in result.stdout
    assert "no plugin follows the outbox" in result.stdout


def test_prune_takes_only_what_all_have_seen_and_is_old(database: str, socket: Path) -> None:
    """Of a topic that nobody follows, what is old."""
    install(database)
    publish(
        database, *[("flow", str(number)) for number in range(1, 6)], ("new", "6"), ("nobody", "7"), ("nobody", "8")
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "update runnerd_outbox.events set created_at = now() - interval '8 days' where id not in (2, 8)"
        )
    with fake_daemon(socket, followed):
        kept = invoke("--socket", str(socket), "outbox", "prune", "--dsn", database, "--older-than-days", "9")
        pruned = invoke("--socket", str(socket), "outbox", "prune", "--dsn", database)
    assert kept.stdout == "0 events are deleted\n"
    assert pruned.stdout == "3 events are deleted\n"
    assert [payload for *_, payload in events(database)] == ["2", "4", "5", "6", "8"]


def test_prune_without_the_daemon_deletes_nothing(database: str, socket: Path) -> None:
    """Nobody else knows what was seen."""
    install(database)
    publish(database, ("flow", "1"))
    result = invoke("--socket", str(socket), "outbox", "prune", "--dsn", database, "--older-than-days", "0")
    assert result.exit_code == ExitCode.DOWN
    assert len(events(database)) == 1
