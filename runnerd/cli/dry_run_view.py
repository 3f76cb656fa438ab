"""How the answer to `fire --dry-run` looks: the outcome, what was asked for, the transaction, and the limits."""

from typing import Final

from rich.text import Text

from runnerd.cli.decision_text import asked_for
from runnerd.cli.terminal import cell, open_console, show_line, show_wrapped, uncut, word
from runnerd.cli.text import ether, gwei
from runnerd.control.dry_run_messages import DryRun
from runnerd.text import printable

_LABEL_WIDTH: Final = 13


def show_dry_run(found: DryRun) -> None:
    """Print all of it."""
    console = open_console()

    def show(label: str, value: Text) -> None:
        line = Text.assemble((label.ljust(_LABEL_WIDTH), "dim"), value)
        line.overflow = value.overflow
        show_line(console, line)

    def wrap(label: str, text: str) -> None:
        show_wrapped(console, cell(text), prefix=Text(label.ljust(_LABEL_WIDTH), "dim"))

    show("dry run", cell("nothing was signed, counted or stored", "dim"))
    show("outcome", cell("no result in time", "yellow") if found.outcome is None else word(found.outcome))
    if found.reason:
        wrap("reason", found.reason)
    for line in asked_for(found.decision):
        wrap("action", line)
    if found.state_writes:
        wrap("state", f"would write {', '.join(map(printable, found.state_writes))}")
    if found.to is not None:
        show("to", uncut(found.to))
        show("value", cell(ether(found.value_wei or 0)))
        show_wrapped(console, cell(found.calldata or ""), prefix=Text("calldata".ljust(_LABEL_WIDTH), "dim"))
    if found.gas_limit is not None:
        show("gas", cell(f"{found.gas_limit:,}"))
    if found.max_fee_per_gas_wei is not None:
        cost_wei = (found.gas_limit or 0) * found.max_fee_per_gas_wei
        show("max fee", cell(f"{gwei(found.max_fee_per_gas_wei)} gwei per gas, {ether(cost_wei)} at most"))
    for limit in found.limits:
        show_amount = ether if "_wei" in limit.key else str
        asked, left, whole = map(show_amount, (limit.asked, limit.limit - limit.used, limit.limit))
        text = f"{limit.key} of {limit.of}: {asked} of {left} that are left (limit {whole})"
        wrap("limit", text)
