"""`runnerctl adopt`: a transaction of the operator that runnerd did not make was meant so."""

import re

import click

from runnerd.cli.asking import fetch
from runnerd.cli.options import Target, pass_target
from runnerd.control.chain_messages import HASH_PATTERN, Adopt
from runnerd.control.messages import Done
from runnerd.text import printable


class TransactionHash(click.ParamType[str]):
    """0x and 64 hex digits."""

    name = "hash"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if re.fullmatch(HASH_PATTERN, value) is None:
            self.fail(f"{printable(value)!r} is not a transaction's hash: 0x and 64 hex digits", param, ctx)
        return value.lower()


@click.command(
    epilog="""\b
Examples:
  runnerctl adopt 0x4fa9c1d24fa9c1d24fa9c1d24fa9c1d24fa9c1d24fa9c1d24fa9c1d24fa9c1d2

HASH is in `runnerctl status`, in the reason of the pause and in the log. When it was the last one of its
wallet, the vaults that were paused for it go on, at the next free nonce. If you do not know who sent it,
the key is stolen: leave the vaults paused, and have their owner replace the operator."""
)
@click.argument("tx_hash", metavar="HASH", type=TransactionHash())
@pass_target
def command(target: Target, tx_hash: str) -> None:
    """Say that a transaction that is not ours was meant so."""
    click.echo(printable(fetch(target, Adopt(hash=tx_hash), Done).text))
