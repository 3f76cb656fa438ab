"""`runnerctl audit`: the group. Its commands read the ledger themselves, so they need no running daemon."""

import click

from runnerd.cli.audit.export import export
from runnerd.cli.audit.verify import verify


@click.group(
    epilog="""\b
Examples:
  runnerctl audit verify
  runnerctl audit export --format csv --output audit.csv"""
)
def command() -> None:
    """Verify and export the audit trail: every decision, denial, transaction, result and command, chained by hashes."""


command.add_command(verify)
command.add_command(export)
