"""What `runnerctl safe` prints of a proposal: the calls that the Safe would make, and who has signed."""

from datetime import datetime

from rich.console import Console
from rich.text import Text

from runnerd.chain.errors import AbiError
from runnerd.chain.vaults.multisend import Operation, decode_multi_send
from runnerd.cli.terminal import cell, show_line, show_wrapped, uncut, word
from runnerd.cli.text import clock_time, exact_ether
from runnerd.control.safe_messages import Proposal

_INDENT = 2


def show_proposals(console: Console, proposals: list[Proposal], now: datetime) -> None:
    """A paragraph for each."""
    if not proposals:
        show_line(console, cell("nothing waits for signatures", "dim"))
    for proposal in proposals:
        show_line(console, Text.assemble((f"call {proposal.call_id}", "bold"), "  ", word(proposal.state)))
        show_wrapped(console, cell(_origin(proposal, now)), _INDENT)
        show_wrapped(console, cell(_signatures(proposal), "dim"), _INDENT)


def show_proposal(console: Console, proposal: Proposal, now: datetime) -> None:
    """All that an owner signs, call by call; nothing is cut."""
    show_proposals(console, [proposal], now)
    facts = [
        ("chain", str(proposal.chain_id)),
        ("Safe", proposal.safe),
        ("Safe's nonce", "not given yet" if proposal.safe_nonce is None else str(proposal.safe_nonce)),
        ("to", proposal.to),
        ("value", exact_ether(proposal.value_wei)),
        ("operation", "delegatecall" if proposal.operation == Operation.DELEGATE_CALL else "call"),
        ("data", proposal.data),
    ]
    for name, value in facts:
        _show_fact(console, name, value)
    for index, line in enumerate(_calls(proposal)):
        _show_fact(console, f"call {index + 1}", line)
    for owner in proposal.owners:
        _show_fact(console, "owner", f"{owner} {'has signed' if owner in proposal.signed_by else 'has not signed'}")
    if proposal.safe_tx_hash is not None:
        _show_fact(console, "hash", proposal.safe_tx_hash, "bold")


def _show_fact(console: Console, name: str, value: str, style: str = "") -> None:
    show_line(console, Text.assemble((f"{name:<13}", "dim"), uncut(value, style), overflow="ignore"), _INDENT)


def _origin(proposal: Proposal, now: datetime) -> str:
    nonce = "" if proposal.safe_nonce is None else f", nonce {proposal.safe_nonce}"
    return (
        f"{proposal.plugin}, vault {proposal.vault}, Safe {proposal.safe} on chain {proposal.chain_id}{nonce}, "
        f"until {clock_time(proposal.deadline_at, now)}"
    )


def _signatures(proposal: Proposal) -> str:
    if proposal.threshold is None:
        return "the Safe was not asked yet"
    ours = " (our operator's counts by sending it)" if proposal.operator in proposal.owners else ""
    return f"{len(proposal.signed_by)} of {proposal.threshold} signatures{ours}"


def _calls(proposal: Proposal) -> list[str]:
    if proposal.operation != Operation.DELEGATE_CALL:
        return []
    try:
        calls = decode_multi_send(bytes.fromhex(proposal.data.removeprefix("0x")))
    except (ValueError, AbiError) as error:
        return [f"cannot be read: {error}"]
    return [f"{call.to} with {exact_ether(call.value_wei)}: 0x{call.data.hex()}" for call in calls]
