"""`runnerctl audit` on a real ledger: what it prints, what it exits with, and what it never lets through."""

import asyncio
import csv
import errno
import io
import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from runnerd.cli.audit.export import safe_cell
from runnerd.cli.exits import ExitCode
from runnerd.store import audit
from runnerd.store.audit import Record
from runnerd.store.calls import JobOutcome
from runnerd.store.embedded import EmbeddedPostgres
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from tests.cli.configs import write_config
from tests.cli.running import RUNNERCTL, invoke
from tests.support.aio import run_async
from tests.support.calls import job_call

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 2, 1, tzinfo=UTC)
HOSTILE = "=cmd|' /C calc'!A0\x1b[2J\u202e\x9b31m\nsecond \ud7ff line"


def append(dsn: str, records: Sequence[Record], *beside: Statement) -> None:
    """As runnerd does."""

    async def scenario() -> None:
        store = Store(dsn)
        await store.open()
        await store.commit(*beside, *([audit.append(*records)] if records else []))
        await store.close()

    run_async(scenario())


def command(n: int, at: datetime = AT) -> Record:
    return Record(at, "command", f"command:{n}", None, audit.canonical({"command": "fire", "principal": f"uid:{n}"}))


@pytest.fixture
def config(tmp_path: Path, ledger_dsn: str) -> Path:
    """A configuration whose ledger has four records."""
    append(ledger_dsn, [command(1), command(2), command(3, LATER)])
    return write_config(tmp_path, extra=f'[database]\ndsn = "{ledger_dsn}"')


def tamper(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter table audit_records disable trigger all")
        connection.execute(statement.encode())


# --- verify ----------------------------------------------------------------------------------------------------------


def test_a_whole_trail_is_said_to_be_whole_with_its_head(config: Path, ledger_dsn: str) -> None:
    """Exit code 0, and the hash to write down is there in full at any width."""
    with psycopg.connect(ledger_dsn) as connection:
        row = connection.execute("select encode(hash, 'hex') from audit_records where seq = 4").fetchone()
    assert row is not None
    assert row[0] in invoke("--config", str(config), "audit", "verify", columns=40).stdout.split()
    result = invoke("--config", str(config), "audit", "verify")
    assert result.exit_code == ExitCode.DONE, result.stderr
    assert row[0] in result.stdout.split()
    assert "4 records, 1 to 4, " in result.stdout
    assert "2026-02-01T00:00:00.000000Z" in result.stdout
    assert "✓ the chain is whole, and the ledger agrees with it" in result.stdout
    found = json.loads(invoke("--config", str(config), "audit", "verify", "--json").stdout)
    assert (found["is_intact"], found["records"], found["head"], found["findings"]) == (True, 4, row[0], [])
    assert found["kinds"] == {"command": 3, "opened": 1}
    assert set(found["compared"]) == {
        "decisions", "intents", "signatures", "attempts", "fillers", "settled transactions", "results"
    }  # fmt: skip


def test_what_was_changed_is_named_with_exit_code_1(config: Path, ledger_dsn: str) -> None:
    """In words for a person, and as data."""
    tamper(ledger_dsn, "update audit_records set body = '{}' where seq = 3")
    result = invoke("--config", str(config), "audit", "verify")
    assert result.exit_code == ExitCode.ATTENTION
    assert "✗ record 3 (command:2) was changed: its hash is not that of its content" in result.stdout
    assert "whole" not in result.stdout
    found = json.loads(invoke("--config", str(config), "audit", "verify", "--json").stdout)
    assert (found["is_intact"], found["broken"], found["findings"][0]["seq"]) == (False, 1, 3)
    assert invoke("--config", str(config), "audit", "verify", "--from", "4").exit_code == ExitCode.DONE


def test_a_head_is_proven_or_missed(config: Path) -> None:
    """With 0x or without, in any case of letters."""
    head = json.loads(invoke("--config", str(config), "audit", "verify", "--json").stdout)["head"]
    proven = invoke("--config", str(config), "audit", "verify", "--head", "0x" + head.upper())
    assert proven.exit_code == ExitCode.DONE
    assert "the head you noted is record 4" in proven.stdout
    missed = invoke("--config", str(config), "audit", "verify", "--head", "ab" * 32)
    assert missed.exit_code == ExitCode.ATTENTION
    assert f"no record has the hash {'ab' * 32}" in " ".join(missed.stdout.split())
    wrong = invoke("--config", str(config), "audit", "verify", "--head", "abc")
    assert wrong.exit_code == ExitCode.USAGE
    assert "a head is 64 hexadecimal digits" in wrong.stderr


def test_names_that_somebody_wrote_into_the_trail_do_not_reach_the_terminal_raw(config: Path, ledger_dsn: str) -> None:
    """Who can change the trail must not be able to clear the finding from the screen."""
    tamper(ledger_dsn, "update audit_records set key = E'x\\x1b[2J\\u202e' where seq = 3")
    for arguments in (["verify"], ["verify", "--json"], ["export"], ["export", "--format", "csv"]):
        shown = invoke("--config", str(config), "audit", *arguments).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_a_ledger_without_a_trail_says_what_to_do(tmp_path: Path, database: str) -> None:
    """It is of an older release."""
    file = write_config(tmp_path, extra=f'[database]\ndsn = "{database}"')
    for name in ("verify", "export"):
        result = invoke("--config", str(file), "audit", name)
        assert result.exit_code == ExitCode.ATTENTION
        assert "this ledger has no audit trail yet" in result.stderr


def test_a_database_that_is_away_is_exit_code_2(tmp_path: Path) -> None:
    """And the connection string, which may hold a password, is not shown."""
    dsn = f"host={tmp_path} dbname=x user=u password=hunter2"
    file = write_config(tmp_path, extra=f'[database]\ndsn = "{dsn}"')
    result = invoke("--config", str(file), "audit", "verify")
    assert result.exit_code == ExitCode.DOWN
    assert "runnerctl: the ledger: " in result.stderr
    assert "hunter2" not in result.output


def test_the_embedded_ledger_is_read_while_it_runs_and_when_it_does_not(short_dir: Path) -> None:
    """Without a daemon the command starts the database, and leaves no process; one that was never made is not made."""
    file = write_config(short_dir)
    never = invoke("--config", str(file), "audit", "verify")
    assert never.exit_code == ExitCode.DOWN
    assert "there is no ledger in" in never.stderr
    assert not (short_dir / "data" / "postgres").exists()
    embedded = EmbeddedPostgres(short_dir / "data", short_dir / "run")

    async def once() -> int:
        store = Store(await embedded.start())
        await store.open()
        await store.commit(audit.append(command(1)))
        result = await asyncio.to_thread(invoke, "--config", str(file), "audit", "verify")
        await store.close()
        await embedded.stop()
        assert "is started for this command" not in result.stderr
        return result.exit_code

    assert run_async(once()) == ExitCode.DONE
    for _ in range(2):
        result = invoke("--config", str(file), "audit", "verify")
        assert result.exit_code == ExitCode.DONE, result.stderr
        assert "2 records, 1 to 2" in result.stdout
        assert "its database is started for this command" in result.stderr


# --- export ----------------------------------------------------------------------------------------------------------


def test_json_lines_carry_all_that_is_hashed(config: Path) -> None:
    """In order, each line a canonical object; the body is one as well, and its text can be had back."""
    lines = invoke("--config", str(config), "audit", "export").stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["seq"] for record in records] == [1, 2, 3, 4]
    assert records[2]["body"] == {"command": "fire", "principal": "uid:2"}
    assert records[3]["at"] == "2026-02-01T00:00:00.000000Z"
    assert [record["previous_hash"] for record in records[1:]] == [record["hash"] for record in records[:-1]]
    assert [audit.canonical(record) for record in records] == lines


def test_a_part_can_be_exported(config: Path) -> None:
    """From a number, since a moment; a wrong one is refused with an example."""

    def numbers(*arguments: str) -> list[int]:
        lines = invoke("--config", str(config), "audit", "export", *arguments).stdout.splitlines()
        return [json.loads(line)["seq"] for line in lines]

    assert numbers("--from", "3") == [3, 4]
    assert numbers("--since", "2026-02-01") == [1, 4]  # the first record is of now
    assert numbers("--since", "2026-02-01T00:00:00Z", "--from", "2") == [4]
    assert numbers("--since", "2026-02-01T01:00:00+02:00", "--from", "2") == [4]
    wrong = invoke("--config", str(config), "audit", "export", "--since", "yesterday")
    assert wrong.exit_code == ExitCode.USAGE
    assert "write 2026-01-31 or 2026-01-31T12:00:00Z" in wrong.stderr


def test_hostile_text_harms_neither_terminal_nor_spreadsheet(config: Path, ledger_dsn: str) -> None:
    """A plugin chooses its reasons: no escape sequence, no line of its own, no formula, and nothing is lost in JSON."""
    call = job_call(9, plugin="alpha")
    append(ledger_dsn, [audit.result(call, JobOutcome.NOOP, HOSTILE, None, AT)])
    text = invoke("--config", str(config), "audit", "export", "--from", "5").stdout
    assert text.isascii()
    assert json.loads(text)["body"]["reason"] == HOSTILE
    shown = invoke("--config", str(config), "audit", "export", "--format", "csv", "--from", "5").stdout
    assert all(character.isprintable() or character == "\n" for character in shown)
    (row,) = csv.DictReader(io.StringIO(shown))
    assert row["reason"] == "'=cmd|' /C calc'!A0·[2J··31m⏎second \ud7ff line".replace("\ud7ff", "·")
    assert (row["seq"], row["call_id"], row["plugin"], row["outcome"]) == ("5", "9", "alpha", "noop")
    assert json.loads(row["body"])["reason"] == HOSTILE


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    """A spreadsheet takes what begins with an apostrophe for text."""
    assert safe_cell(text)[0] in "'⏎"


def test_a_cell_that_is_harmless_stays_as_it_is() -> None:
    """The control."""
    assert [safe_cell(value) for value in ("a=b", 7, None, "")] == ["a=b", "7", "", ""]


def test_a_file_is_private_and_complete(config: Path, tmp_path: Path) -> None:
    """An older one is replaced when the new one is whole; nothing goes to stdout."""
    output = tmp_path / "audit.csv"
    output.write_text("old")
    result = invoke("--config", str(config), "audit", "export", "--format", "csv", "--output", str(output))
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, "")
    assert len(list(csv.DictReader(io.StringIO(output.read_text())))) == 4
    assert output.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "audit.csv.partial").exists()
    nowhere = invoke("--config", str(config), "audit", "export", "--output", str(tmp_path / "none" / "x"))
    assert nowhere.exit_code == ExitCode.ATTENTION
    assert "cannot be written: No such file or directory" in nowhere.stderr


def test_a_file_has_its_name_when_it_is_on_the_disk(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data before the rename, and the directory after it: a power cut leaves the old file or the whole new one."""
    output = tmp_path / "audit.jsonl"
    output.write_text("old")
    synced: list[tuple[Path, int, bool]] = []

    def fsync(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((what, os.fstat(descriptor).st_size if what.is_file() else 0, output.read_text() == "old"))

    monkeypatch.setattr(os, "fsync", fsync)
    result = invoke("--config", str(config), "audit", "export", "--output", str(output))
    assert result.exit_code == ExitCode.DONE, result.stderr
    size = output.stat().st_size
    assert synced == [(tmp_path / "audit.jsonl.partial", size, True), (tmp_path, 0, False)]


def test_a_disk_that_does_not_take_the_file_leaves_the_old_one(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems say only at fsync that there was no room."""
    output = tmp_path / "audit.jsonl"
    output.write_text("old")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    result = invoke("--config", str(config), "audit", "export", "--output", str(output))
    assert result.exit_code == ExitCode.ATTENTION
    assert "cannot be written: No space left on device" in result.stderr
    assert output.read_text() == "old"
    assert not (tmp_path / "audit.jsonl.partial").exists()


def test_a_reader_that_has_seen_enough_is_no_error(config: Path, ledger_dsn: str) -> None:
    """As in `runnerctl audit export | head -1`, with more to come than a pipe holds."""
    append(ledger_dsn, [command(n) for n in range(10, 1_500)])
    process = subprocess.Popen(
        [*RUNNERCTL, "--config", str(config), "audit", "export"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["seq"] == 1
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), error) == (0, b"")
