"""The private cluster: made when no DSN is configured, kept alive, and the same ledger after its death."""

import os
import signal
from collections.abc import Iterator

import pytest

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
