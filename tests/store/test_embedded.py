"""The embedded cluster on a real PostgreSQL: starts, ends with its owner, loses nothing, says what is wrong."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import uvloop

from runnerd.store.embedded import EmbeddedPostgres
from runnerd.store.embedded.files import read_status
from runnerd.store.embedded.server import Deadlines
from runnerd.store.errors import (
    ClusterInUse,
    ClusterRefused,
    PathUnreachable,
    PostgresNotStarted,
    SocketPathTooLong,
    StoreError,
)
from tests.support.aio import run_async
from tests.support.leaks import find_descendants, wait_until_gone
from tests.support.postgres import REPOSITORY, host_postgres
from tests.support.short_dir import make_short_dir

pytestmark = pytest.mark.integration

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory with a cluster that was started once and stopped; copied by the tests, never used itself."""
    with make_short_dir(in_memory=True) as base:
        run_async(_start_and_stop(base / "data", base / "run"))
        yield base / "data"


@pytest.fixture
def data_dir(made: Path, short_dir: Path) -> Path:
    """A data directory of this test alone, with a cluster: saves the second that initdb takes."""
    subprocess.run(["cp", "-a", made, short_dir / "data"], check=True)
    return short_dir / "data"


def server(data_dir: Path, deadlines: Deadlines | None = None) -> EmbeddedPostgres:
    """A server on `data_dir`, with its sockets beside it."""
    return EmbeddedPostgres(data_dir, data_dir.parent / "run", deadlines)


def put(dsn: str, number: int) -> None:
    """Commit one row."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table if not exists kept (number integer)")
        connection.execute("insert into kept values (%s)", (number,))


def get(dsn: str) -> list[int]:
    """The rows that were committed."""
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("select number from kept order by number")]


def is_reachable(dsn: str) -> bool:
    """The server takes connections."""
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_row_survives_an_orderly_stop(short_dir: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The first start makes the cluster, the second finds what was written; on the event loop of production too."""

    async def scenario() -> list[int]:
        first = server(short_dir / "data")
        put(await first.start(), 1)
        await first.stop()
        second = server(short_dir / "data")
        rows = get(await second.start())
        await second.stop()
        return rows

    assert run_async(scenario(), loop_factory=loop_factory) == [1]
    assert "database system is shut down" in (short_dir / "data/postgres.log").read_text()


def test_the_server_is_private_and_durable(data_dir: Path) -> None:
    """No network listener, sockets that only our user can open, fsync and checksums on, UTF-8."""

    async def scenario() -> None:
        postgres = server(data_dir)
        dsn = await postgres.start()
        with psycopg.connect(dsn) as connection:
            for setting, wanted in {
                "listen_addresses": "", "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
                "data_checksums": "on", "server_encoding": "UTF8", "timezone": "UTC",
            }.items():  # fmt: skip
                found = connection.execute("select current_setting(%s)", (setting,)).fetchone()
                assert found == (wanted,), setting
        sockets = data_dir.parent / "run/postgres"
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert (sockets / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        assert (data_dir / "postgres").stat().st_mode & 0o777 == 0o700
        await postgres.stop()

    run_async(scenario())


def test_kill_9_of_the_owner_leaves_no_postgres_and_loses_no_row(data_dir: Path) -> None:
    """Death travels down. What was committed is there at the next start, which need not wait for anybody."""
    with host_postgres(data_dir, data_dir.parent / "run") as (owner, report):
        put(report["dsn"], 7)
        family = find_descendants(owner.pid)
        assert any("postgres" in line for line in family.values())
        owner.kill()
        assert wait_until_gone(family, 2.0) < 2.0
    with host_postgres(data_dir, data_dir.parent / "run") as (_, report):
        assert get(report["dsn"]) == [7]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopping"])
def test_a_start_waits_for_an_old_server_that_is_going_down(data_dir: Path, end: signal.Signals) -> None:
    """A restart right after the end, with the old postgres still there (here: frozen until we look), simply works."""

    async def scenario(old: int, owner: "subprocess.Popen[str]") -> list[int]:
        os.kill(old, signal.SIGSTOP)
        if end is signal.SIGKILL:
            owner.kill()
        else:
            os.kill(old, signal.SIGINT)
        postgres = server(data_dir)
        starting = asyncio.get_running_loop().create_task(postgres.start(), name="test:start")
        done, _ = await asyncio.wait([starting], timeout=0.3)
        assert not done, "it did not wait"
        os.kill(old, signal.SIGCONT)
        rows = get(await starting)
        await postgres.stop()
        return rows

    with host_postgres(data_dir, data_dir.parent / "run") as (owner, report):
        put(report["dsn"], 3)
        assert run_async(scenario(postmaster_of(data_dir), owner)) == [3]


def test_two_owners_of_one_directory_are_refused(data_dir: Path) -> None:
    """The second is told which postgres is in its way, and the first does not notice."""

    async def scenario(pid: int) -> None:
        with pytest.raises(ClusterInUse, match=str(pid)):
            await server(data_dir, Deadlines(lock_s=0.1)).start()

    with host_postgres(data_dir, data_dir.parent / "run") as (_, report):
        run_async(scenario(postmaster_of(data_dir)))
        put(report["dsn"], 1)


def test_two_data_directories_in_one_runtime_directory_are_refused(data_dir: Path, short_dir: Path) -> None:
    """Otherwise the second would take the first one's socket away."""

    async def scenario() -> None:
        other = EmbeddedPostgres(short_dir / "other", data_dir.parent / "run", Deadlines(lock_s=0.1))
        with pytest.raises(ClusterInUse):
            await other.start()

    with host_postgres(data_dir, data_dir.parent / "run") as (_, report):
        run_async(scenario())
        put(report["dsn"], 1)


def test_a_socket_path_that_is_too_long_is_refused_before_anything_is_made(short_dir: Path) -> None:
    """Linux allows 107 bytes; the text names the path and what to change."""
    runtime_dir = short_dir / ("x" * (107 - len(str(short_dir)) - len("//postgres/.s.PGSQL.5432") + 1))

    async def scenario() -> None:
        with pytest.raises(SocketPathTooLong, match=r"108 bytes.*runtime_dir"):
            await EmbeddedPostgres(short_dir / "data", runtime_dir).start()

    run_async(scenario())
    assert list(short_dir.iterdir()) == []


def test_the_longest_socket_path_works(data_dir: Path, short_dir: Path) -> None:
    """Control of the refusal: 107 bytes are allowed."""
    runtime_dir = short_dir / ("x" * (107 - len(str(short_dir)) - len("//postgres/.s.PGSQL.5432")))
    run_async(_start_and_stop(data_dir, runtime_dir))


def test_a_ctrl_c_at_the_terminal_does_not_reach_postgres(data_dir: Path) -> None:
    """It has a session of its own: runnerd needs its ledger until it has drained."""

    async def scenario() -> None:
        postgres = server(data_dir)
        await postgres.start()
        assert os.getsid(postmaster_of(data_dir)) != os.getsid(0)
        await postgres.stop()

    run_async(scenario())


def test_stop_does_not_wait_for_clients(data_dir: Path) -> None:
    """A client in the middle of a transaction is cut off; its transaction is rolled back."""

    async def scenario() -> list[int]:
        postgres = server(data_dir)
        dsn = await postgres.start()
        put(dsn, 1)
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn) as client:
            client.execute("insert into kept values (2)")
            async with asyncio.timeout(5):
                await postgres.stop()
        rows = get(await postgres.start())
        await postgres.stop()
        await postgres.stop()
        return rows

    assert run_async(scenario()) == [1]


def test_a_server_that_is_killed_is_started_again(data_dir: Path) -> None:
    """`keep` brings it back under the same DSN, with every committed row."""

    async def scenario() -> list[int]:
        postgres = server(data_dir)
        dsn = await postgres.start()
        put(dsn, 1)
        keeping = asyncio.get_running_loop().create_task(postgres.keep(), name="test:keep")
        old = postmaster_of(data_dir)
        os.kill(old, signal.SIGKILL)
        async with asyncio.timeout(10):
            while read_status(data_dir / "postgres")[0] in (old, None) or not is_reachable(dsn):  # noqa: ASYNC110 - a client
                await asyncio.sleep(0.01)
        rows = get(dsn)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await postgres.stop()
        return rows

    assert run_async(scenario()) == [1]


def test_a_start_that_is_cancelled_leaves_nothing(data_dir: Path) -> None:
    """At any point of the start: the leak fixture looks for processes, the next start needs the lock."""

    async def scenario() -> None:
        for patience_s in (0.0, 0.02, 0.05, 0.08, 0.1):
            postgres = server(data_dir)
            try:
                async with asyncio.timeout(patience_s):
                    await postgres.start()
            except TimeoutError:
                assert find_descendants() == before
            else:
                await postgres.stop()

    before = find_descendants()
    run_async(scenario())
    run_async(_start_and_stop(data_dir, data_dir.parent / "run"))


def test_an_initdb_that_was_interrupted_is_thrown_away(short_dir: Path) -> None:
    """A kill during the first start leaves half a cluster: the next start makes a whole one."""
    partial = short_dir / "data/postgres.partial"
    partial.mkdir(parents=True)
    short_dir.joinpath("data").chmod(0o711)
    (partial / "PG_VERSION").write_text("18\n")
    run_async(_start_and_stop(short_dir / "data", short_dir / "run"))
    assert not partial.exists()


def test_a_pid_file_that_names_a_stranger_does_not_matter(data_dir: Path) -> None:
    """In a container pids repeat: the pid in an old postmaster.pid may be another process of the same user by now."""
    run_dir = data_dir.parent / "run/postgres"
    run_dir.mkdir(parents=True)
    owner = (data_dir / "postgres").stat()
    with subprocess.Popen(["/bin/sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None) as stranger:
        for stale in (data_dir / "postgres/postmaster.pid", run_dir / ".s.PGSQL.5432.lock"):
            stale.write_text(f"{stranger.pid}\n{data_dir / 'postgres'}\n1\n5432\n\n\n\n")
            os.chown(stale, owner.st_uid, owner.st_gid)
        run_async(_start_and_stop(data_dir, data_dir.parent / "run"))
        stranger.kill()


def test_a_failed_start_shows_what_postgres_said(data_dir: Path) -> None:
    """The operator need not look for a log file to learn why."""
    with (data_dir / "postgres/postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")

    async def scenario() -> None:
        with pytest.raises(PostgresNotStarted, match="no_such_setting"):
            await server(data_dir).start()

    run_async(scenario())


@pytest.mark.parametrize("version, said", [("9", "made by PostgreSQL 9"), ("", "not a PostgreSQL cluster")])
def test_files_that_are_not_ours_to_start_are_refused_untouched(data_dir: Path, version: str, said: str) -> None:
    """Another major version, or a directory that is no cluster at all."""
    (data_dir / "postgres/PG_VERSION").write_text(version)
    before = sorted(str(path) for path in data_dir.rglob("*"))

    async def scenario() -> None:
        with pytest.raises(ClusterRefused, match=said):
            await server(data_dir).start()

    run_async(scenario())
    assert sorted(str(path) for path in data_dir.rglob("*")) == before


@only_root
def test_as_root_it_runs_as_another_user(data_dir: Path) -> None:
    """PostgreSQL refuses root; no process of the cluster may have root's uid, groups or capabilities."""

    async def scenario() -> None:
        postgres = server(data_dir)
        await postgres.start()
        status = Path(f"/proc/{postmaster_of(data_dir)}/status").read_text()
        assert not re.search(r"^(Uid|Gid):.*\t0\b", status, re.MULTILINE)
        assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE)
        await postgres.stop()

    run_async(scenario())


@only_root
def test_as_root_the_error_names_the_directory_that_bars_the_way(short_dir: Path) -> None:
    """The stand-in for root must get through every directory; runnerd opens its own two, no other."""
    barrier = short_dir / "closed"
    barrier.mkdir(mode=0o700)

    async def scenario() -> None:
        with pytest.raises(PathUnreachable, match=f"chmod o\\+x {barrier}"):
            await server(barrier / "data").start()

    run_async(scenario())


@only_root
def test_as_a_user_without_rights_it_runs_as_that_user(short_dir: Path) -> None:
    """The ordinary case: no account is changed, nothing belongs to anybody else."""
    home = short_dir / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    site_packages = next(path for path in sys.path if path.endswith("site-packages"))
    python = shutil.which("python3", path="/usr/bin")
    same = "import sys; sys.exit(sys.version_info[:2] != (%d, %d))" % sys.version_info[:2]  # noqa: UP031 - braces
    if python is None or subprocess.run([python, "-c", same], check=False).returncode != 0:
        pytest.skip("no /usr/bin/python3 of this version, and the venv's is out of reach of another user")
    asked = subprocess.run(
        [python, "-m", "tests.support.postgres_host", home / "data", home / "run"],
        input="", capture_output=True, text=True, check=False, timeout=60,
        cwd=REPOSITORY, env={"PYTHONPATH": site_packages}, user=65534, group=65534, extra_groups=[],
    )  # fmt: skip
    assert '"dsn"' in asked.stdout, asked.stdout + asked.stderr
    assert asked.returncode == 0, asked.stderr
    assert {path.stat().st_uid for path in home.rglob("*")} == {65534}


def test_every_refusal_says_what_to_do() -> None:
    """An error says what happened and what the operator can do."""
    for error in (PathUnreachable(Path("/a/b"), Path("/a"), "nobody"), ClusterInUse(Path("/a"), 5)):
        assert isinstance(error, StoreError)
        assert re.search(r"run:|stop", str(error))


def postmaster_of(data_dir: Path) -> int:
    """Pid of the running server."""
    return int((data_dir / "postgres/postmaster.pid").read_text().splitlines()[0])


async def _start_and_stop(data_dir: Path, runtime_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, runtime_dir)
    await postgres.start()
    await postgres.stop()
