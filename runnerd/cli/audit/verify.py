"""`runnerctl audit verify`: recomputes the chain, and holds it against the tables. Names whatever does not fit."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import click
import psycopg
from rich.console import Console
from rich.text import Text

from runnerd.cli.configured import load
from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.ledger import read_ledger
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import FINE, cell, open_console, show_line, show_wrapped, uncut
from runnerd.store.audit_chain import Broken, ChainedRecord, ChainReader
from runnerd.store.audit_reader import (
    COMPARISONS,
    compare,
    fetch_anchor,
    fetch_last_call_before,
    has_trail,
    read_records,
)

MAX_KEPT: Final = 200
"""Findings that are kept and shown; all are counted. Who rewrote a table is not described a million times."""
NO_TRAIL: Final = "this ledger has no audit trail yet: start runnerd of this release once"
_HASH: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}\Z")


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was read, and what is broken. `compared` counts rows by table."""

    records: int = 0
    first: int | None = None
    last: int | None = None
    first_at: str | None = None
    last_at: str | None = None
    head: str = ""
    anchor: int = 0
    """The record that the first one was chained to, which was itself not verified; 0: the beginning."""
    known_head: str | None = None
    known_head_at: int | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    compared: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    findings: list[Broken] = field(default_factory=list)

    def add(self, finding: Broken) -> None:
        """Count it, and keep it if there is room."""
        self.broken += 1
        if len(self.findings) < MAX_KEPT:
            self.findings.append(finding)


class HeadHash(click.ParamType[str]):
    """A hash as `verify` prints it."""

    name = "hash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if not isinstance(value, str) or not _HASH.match(value):
            self.fail("a head is 64 hexadecimal digits, as `runnerctl audit verify` prints it", param, ctx)
        return value.lower().removeprefix("0x")


@click.command(
    epilog="""\b
Examples:
  runnerctl audit verify
  runnerctl audit verify --head 9f2c…            # is what I wrote down then still there, unchanged?
  runnerctl audit verify --from 1200000 --json

The hash of every record is computed again, and every decision, intent, signature of a Safe's owner, attempt,
filler of a gap and result in the ledger is held against its record. Exit code 0: all is as it was written,
1: something was changed, and is named.
Who owns the database can rewrite the whole chain: write the head down elsewhere, and prove it later with
--head. It reads the ledger itself, with or without a running daemon; run it as the user of runnerd."""
)
@click.option(
    "--from", "from_seq", type=click.IntRange(min=1), default=1, help="Begin with this record.", metavar="SEQ"
)
@click.option("--head", "known_head", type=HeadHash(), help="Prove that this head, noted earlier, is in the chain.")
@json_option
@pass_target
def verify(target: Target, from_seq: int, known_head: str | None, as_json: bool) -> ExitCode:
    """Prove that the audit trail is whole, and that the ledger agrees with it."""
    with read_ledger(load(target.config)) as connection:
        verdict = verify_ledger(connection, from_seq, known_head)
    if as_json:
        click.echo(to_json(_as_data(verdict)))
    else:
        show_verdict(open_console(), verdict)
    return ExitCode.ATTENTION if verdict.broken else ExitCode.DONE


def verify_ledger(connection: psycopg.Connection[Any], from_seq: int = 1, known_head: str | None = None) -> Verdict:
    """Read everything from record `from_seq` on. Raises CliError when there is no trail."""
    if not has_trail(connection):
        raise CliError(NO_TRAIL)
    verdict = Verdict(known_head=known_head)
    verdict.anchor, previous_hash = fetch_anchor(connection, from_seq)
    reader = ChainReader(verdict.anchor, previous_hash, verdict.add)
    for record in read_records(connection, from_seq):
        reader.read(record)
        _note(verdict, record)
    verdict.records, verdict.first, verdict.last = reader.count, reader.first_seq, reader.last_seq
    verdict.head = reader.head.hex()
    if not reader.count:
        verdict.last = None
        verdict.add(Broken(None, "there is no record" + (f" from {from_seq} on" if from_seq > 1 else " at all")))
    if known_head is not None and verdict.known_head_at is None:
        where = f" from record {from_seq} on" if from_seq > 1 else ""
        verdict.add(Broken(None, f"no record{where} has the hash {known_head}: what it stood for was replaced or lost"))
    last_call_before = fetch_last_call_before(connection)
    for comparison in COMPARISONS:
        count = compare(connection, comparison, from_seq, last_call_before, verdict.add)
        verdict.compared[comparison.noun] = count
    return verdict


def _note(verdict: Verdict, record: ChainedRecord) -> None:
    verdict.kinds[record.kind] += 1
    verdict.first_at = verdict.first_at or record.at
    verdict.last_at = record.at
    if verdict.known_head is not None and record.hash.hex() == verdict.known_head:
        verdict.known_head_at = record.seq


def _as_data(verdict: Verdict) -> dict[str, object]:
    return {
        "is_intact": not verdict.broken,
        "records": verdict.records,
        "first": verdict.first,
        "last": verdict.last,
        "first_at": verdict.first_at,
        "last_at": verdict.last_at,
        "head": verdict.head,
        "anchor": verdict.anchor,
        "known_head": verdict.known_head,
        "known_head_at": verdict.known_head_at,
        "kinds": dict(sorted(verdict.kinds.items())),
        "compared": verdict.compared,
        "broken": verdict.broken,
        "findings": [{"seq": finding.seq, "what": finding.what} for finding in verdict.findings],
    }


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Print what was verified; or what is broken, line by line."""
    if verdict.records:
        span = (
            f"{verdict.records:,} records, {verdict.first} to {verdict.last}, {verdict.first_at} to {verdict.last_at}"
        )
        show_wrapped(console, cell(span), prefix=Text("  "))
    if verdict.anchor:
        note = f"what stands before was not verified; record {verdict.anchor} is taken as it is"
        show_wrapped(console, cell(note, "dim"), prefix=Text("  "))
    compared = ", ".join(f"{count:,} {noun}" for noun, count in verdict.compared.items())
    show_wrapped(console, cell(f"held against the ledger: {compared}"), prefix=Text("  "))
    for finding in verdict.findings:
        show_wrapped(console, cell(finding.what), prefix=Text("✗ ", "bold red"))
    if verdict.broken > len(verdict.findings):
        show_line(console, cell(f"… and {verdict.broken - len(verdict.findings):,} more", "bold red"), 2)
    if not verdict.broken:
        show_wrapped(console, cell("the chain is whole, and the ledger agrees with it"), prefix=FINE)
    if verdict.known_head_at is not None:
        show_wrapped(console, cell(f"the head you noted is record {verdict.known_head_at}"), prefix=Text("  "))
    if verdict.records:
        show_line(console, uncut(f"head {verdict.head}", "bold"), 2)
