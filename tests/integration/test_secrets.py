"""The key and its passphrase are in two files and in the supervisor's memory, and nowhere else."""

import os
from pathlib import Path

import pytest

from tests.support.leaks import find_descendants
from tests.support.scene import Scene, mint
from tests.support.secrets import find_in_files, find_in_ledger, find_in_memory, find_in_processes, secrets_in

pytestmark = pytest.mark.integration


def test_no_file_holds_a_secret_but_the_passphrase_file(house: Scene) -> None:
    """Not the log at level debug, not the runtime directory; the passphrase's own file shows that the search works."""
    house.fire("puppet", do="act", actions=[mint()])

    found = find_in_files(house.directory, secrets_in(house.directory))
    assert found == {house.directory / "passphrase": {"passphrase"}}


def test_no_row_of_the_ledger_holds_a_secret(house: Scene) -> None:
    """Contexts, decisions, signed bytes, errors and history; the vault's address shows that the search works."""
    house.fire("puppet", do="act", actions=[mint()])

    found, rows = find_in_ledger(house.dsn, secrets_in(house.directory))
    assert (found, rows > 10) == ({}, True)
    control, _ = find_in_ledger(house.dsn, {"vault": house.venue.vault.address.encode()})
    assert {"intents", "decisions"} <= control.keys()


def test_no_argument_and_no_environment_holds_a_secret(house: Scene) -> None:
    """Of the supervisor and of every process below it; the configuration's path shows that the search works."""
    supervisor = house.daemon.process.pid
    pids = [supervisor, *find_descendants(supervisor)]

    assert find_in_processes(pids, secrets_in(house.directory)) == {}
    start = Path(f"/proc/{os.getpid()}/cmdline").read_bytes()[:20]
    assert find_in_processes([os.getpid()], {"pytest": start})


def test_the_supervisor_leaves_no_core_file(house: Scene) -> None:
    """A crash must not write the key to a disk: no core size, and none that could be raised again."""
    limits = Path(f"/proc/{house.daemon.process.pid}/limits").read_text().splitlines()

    (limit,) = [line for line in limits if line.startswith("Max core file size")]
    assert limit.split()[4:6] == ["0", "0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
def test_only_the_supervisor_has_the_key_in_memory(house: Scene) -> None:
    """The http process was forked before the key was read, the zygote and the workers never saw it."""
    house.fire("puppet", do="act", actions=[mint()])
    secrets = secrets_in(house.directory)
    supervisor = house.daemon.process.pid

    assert "key" in find_in_memory(supervisor, secrets)
    for pid, command in find_descendants(supervisor).items():
        assert find_in_memory(pid, secrets) == set(), command
