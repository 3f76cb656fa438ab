"""The private cluster: made when no DSN is configured, kept alive, and the same ledger after its death."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from runnerd.cli.exits import ExitCode
from tests.cli.running import run_process
from tests.support.leaks import find_descendants
from tests.support.scene import Scene, Stage, mint, puppet, wait_for
from tests.support.secrets import find_in_files, secrets_in

pytestmark = pytest.mark.integration

PLUGINS = {
    "puppet": puppet(triggers=[{"kind": "event", "topic": "orders"}]),
    "ticker": puppet(triggers=[{"kind": "cron", "every_seconds": 0.2}]),
}


@pytest.fixture(scope="module")
def scene(stage: Stage) -> Iterator[Scene]:
    """A daemon without a DSN."""
    with stage.scene(PLUGINS, has_dsn=False) as scene:
        yield scene


def test_without_a_dsn_the_ledger_is_in_a_private_cluster(scene: Scene) -> None:
    """PostgreSQL runs below runnerd, in its data directory, reached through a socket that nobody else gets to."""
    postmaster = scene.postmaster()
    assert postmaster in find_descendants(scene.daemon.process.pid)
    assert (scene.directory / "data/postgres/PG_VERSION").exists()
    assert (scene.directory / "run/postgres").stat().st_mode & 0o077 == 0
    assert scene.daemon.status().database == "connected"


def test_the_daemon_survives_the_death_of_its_database(scene: Scene) -> None:
    """kill -9 of the postmaster: no worker's pid changes, the cluster comes back, and calls and events go on."""
    before = scene.fire("puppet", do="act", actions=[mint()], put={"before": 1})
    assert before.outcome == "acted"
    pids = scene.pids()
    postmaster = scene.postmaster()
    assert postmaster is not None

    os.kill(postmaster, signal.SIGKILL)

    wait_for(lambda: scene.log("postgres_ended"), "word of its end")
    scene.daemon.wait_until(lambda status: status.health == "healthy" and scene.postmaster() != postmaster)
    after = scene.fire("puppet", do="get", key="before")
    assert (after.outcome, after.reason) == ("noop", "1")
    assert scene.pids() == pids
    assert scene.run(before.call_id).outcome == "acted"
    wait_for(lambda: scene.log("listening")[1:], "LISTEN again")
    scene.announce("orders", {"do": "noop", "reason": "heard again"})
    wait_for(lambda: [run for run in scene.runs("puppet") if run.reason == "heard again"], "the event")


def test_no_call_is_left_without_an_outcome(scene: Scene) -> None:
    """What was asked for around the outage ended like everything else; only what is fresh may still be open."""
    newest = max(run.id for run in scene.runs())
    wait_for(
        lambda: not scene.rows("select id from job_calls where state <> 'done' and id <= %s", newest), "all outcomes"
    )


def test_the_files_of_the_cluster_hold_no_secret(scene: Scene) -> None:
    """Not in tables, the write-ahead log or PostgreSQL's own log; an address shows that the search works."""
    found = find_in_files(scene.directory, secrets_in(scene.directory))

    assert found == {scene.directory / "passphrase": {"passphrase"}}
    assert find_in_files(scene.directory / "data", {"operator": scene.venue.operator.encode()})


def test_while_the_database_is_away_each_command_says_what_holds(house: Scene) -> None:
    """A pause is in force, a call may have been made, and a query names the cause; with the documented exit codes."""
    losses = {action: len(house.log(action)) for action in ("listen_lost", "store_reconnecting", "library")}
    name = str(conninfo_to_dict(house.dsn)["dbname"])
    asked = [("pause", "bystander"), ("fire", "puppet", "--key", "away", "--wait", "--timeout", "5"), ("runs",)]
    payload = json.dumps({"do": "noop", "reason": "after all"})
    asked[1] = (*asked[1], "--payload", payload)
    with psycopg.connect(make_conninfo(house.dsn, dbname="postgres"), autocommit=True) as admin:
        admin.execute(SQL("alter database {} allow_connections false").format(Identifier(name)))
        try:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            with ThreadPoolExecutor() as pool:
                told = list(pool.map(lambda args: run_process("--config", str(house.config), *args), asked))
            paused = house.plugin("bystander").paused
        finally:
            admin.execute(SQL("alter database {} allow_connections true").format(Identifier(name)))
    assert [one.returncode for one in told] == [ExitCode.PENDING, ExitCode.PENDING, ExitCode.ATTENTION], told
    pause, fire, runs = (one.stderr for one in told)
    assert "the database is not reachable; plugin bystander is paused in this process, not stored yet" in pause
    assert "the database is not reachable; the call may have been made" in fire
    assert runs == "runnerctl: the database is not reachable: see runnerctl status\n"
    assert paused is not None
    wait_for(lambda: house.rows("select from pauses where name = 'bystander'"), "the pause in the ledger")
    again = run_process("--config", str(house.config), *asked[1], "--json")
    assert (json.loads(again.stdout)["is_new"], json.loads(again.stdout)["reason"]) == (False, "after all")
    assert run_process("--config", str(house.config), "resume", "bystander").returncode == ExitCode.DONE
    house.daemon.wait_until(lambda status: status.health == "healthy")
    # Tried again and again meanwhile, and told once for each reason.
    told_of = {action: [record["message"] for record in house.log(action)[count:]] for action, count in losses.items()}
    assert [len(told_of[action]) for action in ("store_reconnecting", "library")] == [1, 0], told_of
    assert "not currently accepting connections" in told_of["store_reconnecting"][0]
    assert 1 <= len(told_of["listen_lost"]) == len(set(told_of["listen_lost"])), told_of


def test_lost_connections_to_a_configured_database_are_made_again(house: Scene) -> None:
    """The administrator throws us out: writer, readers and listener connect again, and no worker notices."""
    pids = house.pids()
    lost = len(house.log("store_lost"))

    others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
    assert len(house.rows(f"{others} and pid <> pg_backend_pid()")) >= 3

    assert house.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
    wait_for(lambda: house.log("store_lost")[lost:], "word of the loss")
    house.daemon.wait_until(lambda status: status.health == "healthy")
    house.announce("orders", {"do": "noop", "reason": "heard after the loss"})
    wait_for(lambda: [run for run in house.runs("puppet") if run.reason == "heard after the loss"], "the event")
    assert house.pids() == pids
