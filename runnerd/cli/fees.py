"""`runnerctl fees`: the knobs of a chain. They are turned while runnerd runs, at once, and outlast restarts."""

from datetime import datetime

import click
from rich.console import Console

from runnerd.cli.asking import ChainName, fetch
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, Column, Row, cell, open_console, show_line, show_listing
from runnerd.cli.text import clock_time, gwei
from runnerd.clock import SystemClock
from runnerd.control.chain_messages import Fees, GetFees, KnobStatus, TurnFees


@click.command(
    epilog="""\b
Examples:
  runnerctl fees base
  runnerctl fees base --max-fee-per-gas-wei 80000000000
  runnerctl fees base --min-priority-fee-wei 2000000000 --replace-after-blocks 2
  runnerctl fees base --reset

Without an option: where each knob stands, and who turned it. What is turned counts in place of the key of
the same name in [chains.CHAIN], from the next signature on, and after restarts. Caps of a wallet or a
plugin hold beside it: the lowest counts."""
)
@click.argument("chain", type=ChainName())
@click.option("--max-fee-per-gas-wei", type=int, metavar="N", help="The highest fee per gas that is signed, in wei.")
@click.option("--min-priority-fee-wei", type=int, metavar="N", help="The least tip per gas, in wei.")
@click.option("--replace-after-blocks", type=int, metavar="N", help="Blocks without inclusion until fees are raised.")
@click.option("--reset", "is_reset", is_flag=True, help="All of them back to the configuration.")
@json_option
@pass_target
def command(
    target: Target,
    chain: str,
    max_fee_per_gas_wei: int | None,
    min_priority_fee_wei: int | None,
    replace_after_blocks: int | None,
    is_reset: bool,
    as_json: bool,
) -> None:
    """Show or turn the fee cap, tip and patience of a chain."""
    is_turning = any(value is not None for value in (max_fee_per_gas_wei, min_priority_fee_wei, replace_after_blocks))
    if is_turning and is_reset:
        raise click.UsageError("--reset goes alone: it takes all knobs back to the configuration")
    request: GetFees | TurnFees = GetFees(chain=chain)
    if is_turning or is_reset:
        request = TurnFees(
            chain=chain,
            max_fee_per_gas_wei=max_fee_per_gas_wei,
            min_priority_fee_wei=min_priority_fee_wei,
            replace_after_blocks=replace_after_blocks,
            is_reset=is_reset,
        )
    fees = fetch(target, request, Fees)
    if as_json:
        click.echo(to_json(fees))
    else:
        show_fees(open_console(), fees, SystemClock().now())


def show_fees(console: Console, fees: Fees, now: datetime) -> None:
    """Print one line a knob."""
    columns = [
        Column("KNOB"),
        Column("VALUE", is_number=True),
        Column("CONFIGURED", is_number=True),
        Column("TURNED BY", is_flexible=True),
        Column("AT (UTC)"),
    ]
    rows = []
    for knob in fees.knobs:
        is_turned = knob.turned_by is not None
        rows.append(
            Row(
                (
                    cell(knob.name, "bold"),
                    cell(_amount(knob, knob.value), "yellow" if is_turned else ""),
                    cell(_amount(knob, knob.configured), "dim" if is_turned else ""),
                    cell(knob.turned_by or ABSENT),
                    cell(clock_time(knob.turned_at, now) if knob.turned_at is not None else ABSENT),
                )
            )
        )
    show_listing(console, columns, rows)
    if not any(knob.turned_by for knob in fees.knobs):
        show_line(console, cell("as configured", "dim"))


def _amount(knob: KnobStatus, value: int) -> str:
    return f"{gwei(value)} gwei" if knob.name.endswith("_wei") else f"{value} blocks"
