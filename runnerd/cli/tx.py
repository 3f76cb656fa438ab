"""`runnerctl tx`: the last signed transactions. A hash is never cut: it is what one pastes into an explorer."""

from datetime import datetime

import click
from rich.console import Console
from rich.text import Text

from runnerd.cli.asking import fetch
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import cell, open_console, show_line, show_wrapped, uncut, word
from runnerd.cli.text import clock_time, ether, gwei
from runnerd.clock import SystemClock
from runnerd.control.record_messages import GetTransactions, Transaction, Transactions

_INDENT = 2
_ENDS = frozenset({"final", "reverted", "expired", "cancelled", "denied"})


@click.command(
    epilog="""\b
Examples:
  runnerctl tx
  runnerctl tx -n 100 --json

Newest first, times in UTC, fees in gwei. A transaction that was replaced with higher fees stands
once for each hash; so does the no-op that cancels one."""
)
@click.option("-n", "limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many.")
@json_option
@pass_target
def command(target: Target, limit: int, as_json: bool) -> None:
    """The last transactions: hash, state, nonce, fees."""
    transactions = fetch(target, GetTransactions(limit=limit), Transactions)
    if as_json:
        click.echo(to_json(transactions))
    else:
        show_transactions(open_console(), transactions.transactions, SystemClock().now())


def show_transactions(console: Console, transactions: list[Transaction], now: datetime) -> None:
    """Print a paragraph for each: the hash alone on its line but for the state."""
    if not transactions:
        show_line(console, cell("no transactions yet", "dim"))
    for transaction in transactions:
        show_line(
            console, Text.assemble(uncut(transaction.hash, "bold"), "  ", word(transaction.state), overflow="ignore")
        )
        show_wrapped(console, cell(_origin(transaction, now)), _INDENT)
        show_wrapped(console, cell(_fees(transaction), "dim"), _INDENT)
        if transaction.error:
            show_wrapped(console, cell(transaction.error, "yellow"), _INDENT, Text("node: ", "yellow"))


def _origin(transaction: Transaction, now: datetime) -> str:
    is_noop = transaction.kind == "noop"
    sent = f"{ether(transaction.value_wei)}, " if transaction.value_wei and not is_noop else ""
    whose = f"cancels call {transaction.call_id}" if is_noop else f"call {transaction.call_id}"
    return (
        f"{'no-op at ' if is_noop else ''}nonce {transaction.nonce}, {whose} of {transaction.plugin} "
        f"for {transaction.vault}, chain {transaction.chain_id}, {sent}"
        f"signed {clock_time(transaction.signed_at, now)}, {_fate(transaction)}"
    )


def _fate(transaction: Transaction) -> str:
    """Where this hash itself stands; the state beside it is its intent's."""
    if transaction.included_block is None and transaction.state in _ENDS:
        return "never took effect"
    if transaction.included_block is None:
        return "not accepted by a node yet" if transaction.accepted_at is None else "waits for a block"
    return f"{'in' if transaction.is_success else 'reverted in'} block {transaction.included_block}"


def _fees(transaction: Transaction) -> str:
    highest, tip = gwei(transaction.max_fee_per_gas_wei), gwei(transaction.max_priority_fee_wei)
    gas, price = transaction.gas_used, transaction.effective_gas_price_wei
    if gas is None or price is None:
        most = gwei(transaction.gas_limit * transaction.max_fee_per_gas_wei)
        return f"fee in gwei: at most {most} = {transaction.gas_limit:,} gas × {highest} (tip {tip})"
    return f"fee in gwei: {gwei(gas * price)} = {gas:,} gas × {gwei(price)} (max {highest}, tip {tip})"
