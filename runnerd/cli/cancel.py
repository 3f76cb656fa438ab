"""`runnerctl cancel`: a call that is on its way to the chain ends without effect, if it still can."""

import click

from runnerd.cli.arguments import CallNumber
from runnerd.cli.asking import fetch
from runnerd.cli.options import Target, pass_target
from runnerd.control.chain_messages import Cancel
from runnerd.control.messages import Done
from runnerd.text import printable


@click.command(
    epilog="""\b
Examples:
  runnerctl cancel 4711

CALL is the number of the call, as in `runnerctl runs`. What is not signed yet ends as denied. What is
signed and not in a block gets a no-op at its nonce, with higher fees: which of the two a block takes
is not ours to say, and the call ends as denied or acted accordingly. It returns when this was begun:
see `runnerctl tx`."""
)
@click.argument("call", type=CallNumber())
@pass_target
def command(target: Target, call: int) -> None:
    """Let a call end without effect, if it still can."""
    click.echo(printable(fetch(target, Cancel(call_id=call), Done).text))
