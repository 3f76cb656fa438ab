"""`runnerctl audit export`: the audit trail as JSON Lines or CSV, streamed; safe for terminal and spreadsheet."""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import click

from runnerd.cli.audit.verify import NO_TRAIL
from runnerd.cli.configured import load
from runnerd.cli.exits import CliError
from runnerd.cli.ledger import read_ledger
from runnerd.cli.options import Target, pass_target
from runnerd.store.audit import canonical
from runnerd.store.audit_chain import ChainedRecord
from runnerd.store.audit_reader import has_trail, parse_body, read_records
from runnerd.text import printable

COLUMNS: Final = (
    "seq", "at", "kind", "call_id", "plugin", "outcome", "reason", "hash_on_chain", "principal",
    "key", "body", "previous_hash", "hash",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601; UTC if it does not say."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """See click.ParamType."""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


@click.command(
    epilog="""\b
Examples:
  runnerctl audit export | jq 'select(.kind == "denial") | .body.rule'
  runnerctl audit export --format csv --since 2026-01-01 --output audit.csv
  runnerctl audit export --from 1200001 --output more.jsonl

Oldest first. JSON Lines carry everything that is hashed, so that others can verify the chain: how is in the
ADR 0017. In CSV, a cell that a spreadsheet would take for a formula begins with an apostrophe. A file is
complete, and on the disk, when it has its name: until then it is called FILE.partial."""
)
@click.option(
    "--format", "kind", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True, help="What to write."
)
@click.option(
    "--from", "from_seq", type=click.IntRange(min=1), default=1, help="Begin with this record.", metavar="SEQ"
)
@click.option("--since", type=Moment(), help="Only records of this time or later.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file (mode 0600), not to stdout."
)
@pass_target
def export(target: Target, kind: str, from_seq: int, since: datetime | None, output: Path | None) -> None:
    """Write the audit trail as JSON Lines or CSV."""
    with read_ledger(load(target.config)) as connection:
        if not has_trail(connection):
            raise CliError(NO_TRAIL)
        with _opened(output) as stream:
            write = write_csv if kind == "csv" else write_json_lines
            write(read_records(connection, from_seq, since), stream)


def write_json_lines(records: Iterator[ChainedRecord], stream: TextIO) -> None:
    """One object a line, in ASCII: whatever a plugin wrote is an escape, and the same to a parser."""
    for record in records:
        body = parse_body(record.body)
        line = {
            "seq": record.seq,
            "at": record.at,
            "kind": record.kind,
            "key": record.key,
            "call_id": record.call_id,
            # As an object only where that loses nothing: the text is what is hashed.
            "body": body if canonical(body) == record.body else record.body,
            "previous_hash": record.previous_hash.hex(),
            "hash": record.hash.hex(),
        }
        stream.write(canonical(line) + "\n")


def write_csv(records: Iterator[ChainedRecord], stream: TextIO) -> None:
    """One row a record; what matters most of the body has columns of its own."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        body = parse_body(record.body)
        cells = (
            record.seq, record.at, record.kind, record.call_id, body.get("plugin"), body.get("outcome"),
            body.get("reason", body.get("rule")), body.get("hash", body.get("transaction")), body.get("principal"),
            record.key, record.body, record.previous_hash.hex(), record.hash.hex(),
        )  # fmt: skip
        writer.writerow([safe_cell(value) for value in cells])


def safe_cell(value: object) -> str:
    """The text of a cell: on one line, printable, and nothing that a spreadsheet would compute."""
    if value is None:
        return ""
    text = printable(str(value))
    return f"'{text}" if str(value).startswith(_FORMULA) or text.startswith(_FORMULA) else text


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Where to write. A reader of the pipe that has seen enough, such as `head`, is no error."""
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_stdout()
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8", newline="", opener=_private) as stream:
            yield stream
            # A name that outlives a power cut must not stand for bytes that do not: data, then name, then directory.
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(output)
        _sync_directory(output.parent)
    except OSError as error:
        raise CliError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _discard_stdout() -> None:
    """What is left in the buffer must not fail again when the interpreter flushes it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
