"""`runnerctl safe`: transactions of a Safe that wait for its owners, shown as what is signed, and signed here.

An owner's key stays in this process: only the signature goes to the daemon. The hash is computed here, from what is
shown, and never taken from the daemon.
"""

import os
import sys
from pathlib import Path

import click

from runnerd.chain.errors import AbiError
from runnerd.chain.vaults.multisend import Operation, decode_multi_send
from runnerd.chain.vaults.safe_tx import SafeTx, parse_signature, recover_owner
from runnerd.cli.arguments import CallNumber
from runnerd.cli.asking import fetch
from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.safe_view import show_proposal, show_proposals
from runnerd.cli.terminal import open_console
from runnerd.cli.wallet import ask_passphrase
from runnerd.clock import SystemClock
from runnerd.control.messages import Done
from runnerd.control.safe_messages import GetProposals, Proposal, Proposals, RejectProposal, SignProposal
from runnerd.process import protect_memory
from runnerd.text import printable
from runnerd.wallets.keystore import unlock_owner
from runnerd.wallets.passphrase import PassphraseFile, fetch_passphrase

MAX_SIGNATURE_FILE_BYTES = 1_000


@click.group(
    epilog="""\b
Examples:
  runnerctl safe list
  runnerctl safe show 4711
  runnerctl safe sign 4711 --keystore ada.json
  runnerctl safe import 4711 ada.signature
  runnerctl safe reject 4711

For vaults with adapter = "safe_multisig". CALL is the number of the JobCall, as in `runnerctl runs`."""
)
def command() -> None:
    """Sign what waits for the owners of a Safe."""


@command.command("list", epilog="""\b
Examples:
  runnerctl safe list
  runnerctl safe list --json""")  # fmt: skip
@json_option
@pass_target
def list_(target: Target, as_json: bool) -> None:
    """What waits for signatures."""
    proposals = fetch(target, GetProposals(), Proposals)
    if as_json:
        click.echo(to_json(proposals))
    else:
        show_proposals(open_console(), proposals.proposals, SystemClock().now())


@command.command(epilog="""\b
Examples:
  runnerctl safe show 4711
  runnerctl safe show 4711 --json

Each call that the Safe would make, and the hash that its owners sign: what a hardware wallet shows must be
the same.""")  # fmt: skip
@click.argument("call", type=CallNumber())
@json_option
@pass_target
def show(target: Target, call: int, as_json: bool) -> None:
    """All that is signed."""
    proposal = _proposal_of(target, call)
    if as_json:
        click.echo(to_json(proposal))
    else:
        show_proposal(open_console(), proposal, SystemClock().now())


@command.command(epilog="""\b
Examples:
  runnerctl safe sign 4711 --keystore ada.json
  runnerctl safe sign 4711 --keystore ada.json --passphrase-file ada.passphrase --yes

Shows what is signed and asks. The key is opened and used in this process alone.""")  # fmt: skip
@click.argument("call", type=CallNumber())
@click.option("--keystore", type=click.Path(path_type=Path), required=True, help="An owner's encrypted key.")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="Read its passphrase from this file.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@pass_target
def sign(target: Target, call: int, keystore: Path, passphrase_file: Path | None, is_sure: bool) -> None:
    """Sign as an owner, and hand the signature in."""
    proposal = _proposal_of(target, call)
    safe_tx = safe_tx_of(proposal)
    show_proposal(open_console(), proposal, SystemClock().now())
    if not is_sure:
        if not sys.stdin.isatty():
            raise CliError("nobody is here to confirm: use --yes", ExitCode.USAGE)
        click.confirm(f"Sign 0x{safe_tx.hash.hex()}?", abort=True, err=True)
    protect_memory()
    if passphrase_file is not None:
        passphrase = fetch_passphrase(PassphraseFile(passphrase_file.absolute()), os.environ)
    else:
        passphrase = ask_passphrase(is_new=False)
    signature = unlock_owner(keystore.absolute(), passphrase).sign_safe_tx(safe_tx)
    _hand_in(target, call, signature)


@command.command("import", epilog="""\b
Examples:
  runnerctl safe import 4711 ada.signature

The file holds one signature in hex: 65 bytes, r, s and v, with or without 0x. v = 27 or 28 is a signature of
the hash (EIP-712), 31 or 32 one by eth_sign, which hardware wallets make.""")  # fmt: skip
@click.argument("call", type=CallNumber())
@click.argument("file", type=click.Path(path_type=Path))
@pass_target
def import_(target: Target, call: int, file: Path) -> None:
    """Hand in a signature that was made elsewhere."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_SIGNATURE_FILE_BYTES)
    except OSError as error:
        raise CliError(f"{file}: {error.strerror or type(error).__name__}") from None
    signature = parse_signature(content.decode("ascii", errors="replace"))
    owner, _ = recover_owner(safe_tx_of(_proposal_of(target, call)).hash, signature)
    click.echo(f"signed by {owner}")
    _hand_in(target, call, signature)


@command.command(epilog="""\b
Examples:
  runnerctl safe reject 4711

The call is recorded as denied. Signatures that owners gave stay valid for the Safe's nonce until the Safe uses
it: whoever holds enough of them could still carry it out.""")  # fmt: skip
@click.argument("call", type=CallNumber())
@pass_target
def reject(target: Target, call: int) -> None:
    """End it without sending it."""
    click.echo(printable(fetch(target, RejectProposal(call_id=call), Done).text))


def safe_tx_of(proposal: Proposal) -> SafeTx:
    """What is signed, from what is shown. Raises CliError when it cannot be signed yet, or the daemon says nonsense."""
    if proposal.safe_nonce is None:
        raise CliError(f"call {proposal.call_id} waits for the proposal before it: see runnerctl safe list")
    try:
        operation = Operation(proposal.operation)
        data = bytes.fromhex(proposal.data.removeprefix("0x"))
        if operation is Operation.DELEGATE_CALL:
            decode_multi_send(data)  # nothing else may run as the Safe itself: it could take the Safe over
        safe_tx = SafeTx(
            chain_id=proposal.chain_id,
            safe=proposal.safe,
            to=proposal.to,
            value_wei=proposal.value_wei,
            data=data,
            operation=operation,
            nonce=proposal.safe_nonce,
        )
    except (ValueError, AbiError) as error:
        raise CliError(f"call {proposal.call_id} is not what an owner should sign: {error}") from None
    if "0x" + safe_tx.hash.hex() != proposal.safe_tx_hash:
        raise CliError("the daemon names another hash than what it shows: sign nothing, and look at the host")
    return safe_tx


def _proposal_of(target: Target, call: int) -> Proposal:
    proposals = fetch(target, GetProposals(), Proposals).proposals
    found = next((proposal for proposal in proposals if proposal.call_id == call), None)
    if found is None:
        known = ", ".join(str(proposal.call_id) for proposal in proposals) or "none"
        raise CliError(f"no proposal of call {call} is open; open: {known}")
    return found


def _hand_in(target: Target, call: int, signature: bytes) -> None:
    click.echo(printable(fetch(target, SignProposal(call_id=call, signature="0x" + signature.hex()), Done).text))
