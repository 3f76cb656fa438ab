"""`runnerctl drain`: runnerd stops in order, and the command returns when its process is gone."""

import os
import select

import click

from runnerd.cli.asking import fetch
from runnerd.cli.exits import ExitCode
from runnerd.cli.options import Target, pass_target
from runnerd.control.messages import Done
from runnerd.control.service_messages import Drain
from runnerd.control.status_messages import GetStatus, Status
from runnerd.text import printable

DAY_S = 86_400.0


@click.command(
    epilog="""\b
Examples:
  runnerctl drain
  runnerctl drain --transactions 120     # before runnerd moves to another host
  runnerctl drain --hurry

runnerd takes nothing new, lets what is being decided end within its deadlines, waits for transactions in
flight as long as it was told (`drain_s` in the configuration, if nothing is said here), stops its services
in order and exits 0. systemd does not start it again. What is not final by then, and what waits, stands in
the ledger and goes on with the next start. A second drain with --hurry ends the waiting.

Exit code 0: it has ended; 3: it has not ended in time, and still drains."""
)
@click.option(
    "--transactions",
    "transactions_s",
    type=click.FloatRange(min=0, max=DAY_S),
    metavar="SECONDS",
    help="How long it waits for transactions in flight. [default: drain_s of the configuration]",
)
@click.option("--hurry", is_flag=True, help="Wait for nothing that goes on with the next start.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, max=DAY_S),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long this command waits for the end; 0 returns at once.",
)
@pass_target
def command(target: Target, transactions_s: float | None, hurry: bool, timeout_s: float) -> ExitCode:
    """Stop runnerd in order: take nothing new, finish what runs, end."""
    pid = fetch(target, GetStatus(), Status).pid
    try:
        process = os.pidfd_open(pid)  # before it is asked: afterwards the number might be somebody else's
    except OSError:
        process = None  # in another container: its pid says nothing here
    try:
        click.echo(printable(fetch(target, Drain(transactions_s=transactions_s, is_hurried=hurry), Done).text))
        if process is None or timeout_s == 0:
            return ExitCode.DONE if timeout_s == 0 else ExitCode.PENDING
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            click.echo(
                f"pid {pid} has not ended after {timeout_s:g} s; it still drains: see runnerctl status", err=True
            )
            return ExitCode.PENDING
    finally:
        if process is not None:
            os.close(process)
    click.echo("runnerd has ended")
    return ExitCode.DONE
