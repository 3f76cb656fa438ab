"""The test support itself: it finds what it is there to find, and gives each test a database of its own."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.aio import run_async
from tests.support.postgres import REPOSITORY, PostgresServer

LEAKING = """
import asyncio, os, socket, subprocess, threading
import pytest
from tests.support import leaks
from tests.support.aio import run_async

leaks.DEADLINE_S = 0.1
pytestmark = pytest.mark.integration
kept = []

def test_process():
    kept.append(subprocess.Popen(["/bin/sh", "-c", "sleep 20 & sleep 20"]))

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def test_descriptor():
    kept.append(os.open("/dev/null", os.O_RDONLY))

def test_socket_file(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))

def test_task():
    async def leave():
        kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(20), name="forgotten:task"))
    run_async(leave())

def test_clean(tmp_path):
    subprocess.run(["/bin/true"])
    run_async(asyncio.sleep(0))

def test_end():
    for pid in leaks.find_descendants():
        os.kill(pid, 9)
    kept[0].wait()
"""


def test_every_kind_of_leak_fails_the_test_that_leaves_it(tmp_path: Path) -> None:
    """Processes (grandchildren too), threads, descriptors, socket files, tasks; and a clean test passes."""
    (tmp_path / "test_leaking.py").write_text(LEAKING)
    asked = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", REPOSITORY / "pyproject.toml", "--rootdir", tmp_path, "-q", "-rN",
         "-p", "tests.support.leaks", "-p", "no:cacheprovider", "-W", "ignore", tmp_path],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60,
    )  # fmt: skip
    for what in ("processes: ", "threads: ", "descriptors: ", "socket files: "):
        assert asked.stdout.count(f"AssertionError: left behind by the test: {what}") == 1, asked.stdout
    assert "left running by the test: forgotten:task" in asked.stdout
    assert "1 failed, 6 passed, 4 errors" in asked.stdout


def test_databases_are_separate(postgres: PostgresServer, database: str, ledger_dsn: str) -> None:
    """One is empty, the other has runnerd's schema; a further one is not the first."""
    tables = "select count(*) from pg_tables where schemaname = 'public'"
    counts = []
    for dsn in (database, ledger_dsn):
        with psycopg.connect(dsn) as connection:
            row = connection.execute(tables.encode()).fetchone()
            assert row is not None
            counts.append(row[0])
    assert counts[0] == 0
    assert counts[1] > 0
    other = postgres.create_database()
    assert other not in (database, ledger_dsn)
    postgres.drop_database(other)


def test_a_coroutine_that_takes_too_long_is_ended() -> None:
    """No test hangs for longer than its deadline."""

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_async(hang(), deadline_s=0.05)
