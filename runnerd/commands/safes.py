"""What `runnerctl safe` asks for: the open proposals of all Safes, an owner's signature for one, or its end."""

from collections.abc import Mapping
from typing import assert_never

from runnerd.chain.vaults.safe_tx import decode_exec, parse_signature
from runnerd.control import messages, safe_messages
from runnerd.control.messages import ControlError, Reply
from runnerd.executor.executor import VaultDesk
from runnerd.executor.proposal import Shown
from runnerd.executor.proposals import ProposalDesk


class SafeCommands:
    """`desks` are all open vaults by name; those that are a Safe with several signatures have proposals."""

    def __init__(self, desks: Mapping[str, VaultDesk]) -> None:
        self._desks = desks

    async def handle(self, request: safe_messages.SafeRequest, principal: str) -> Reply:
        """Carry out one request. Raises ControlError, SignatureRefused, ProposalRefused, ChainError, StoreError."""
        match request:
            case safe_messages.GetProposals():
                return self._read()
            case safe_messages.SignProposal(call_id=call_id):
                signature = parse_signature(request.signature)
                text = await self._desk_of(call_id).add_signature(call_id, signature, principal)
                return messages.Done(text=text)
            case safe_messages.RejectProposal(call_id=call_id):
                return messages.Done(text=await self._desk_of(call_id).reject(call_id, principal))
            case _:
                assert_never(request)

    def _read(self) -> Reply:
        found = [
            _message(shown, desk.adapter.address, desk.adapter.operator)
            for desk in self._desks.values()
            if desk.proposals is not None
            for shown in desk.proposals.shown()
        ]
        return safe_messages.Proposals(proposals=found)

    def _desk_of(self, call_id: int) -> ProposalDesk:
        known: list[str] = []
        for desk in self._desks.values():
            calls = [shown.intent.call_id for shown in desk.proposals.shown()] if desk.proposals is not None else []
            if desk.proposals is not None and call_id in calls:
                return desk.proposals
            known += map(str, calls)
        raise ControlError(f"no proposal of call {call_id} is open; open: {', '.join(known) or 'none'}")


def _message(shown: Shown, safe: str, operator: str) -> safe_messages.Proposal:
    call, _ = decode_exec(shown.intent.calldata)
    proposal, state = shown.proposal, "waiting"
    if proposal is not None:
        state = "complete" if shown.is_complete else "collecting"
    return safe_messages.Proposal(
        call_id=shown.intent.call_id,
        plugin=shown.intent.plugin,
        vault=shown.intent.vault,
        chain_id=shown.intent.chain_id,
        safe=safe,
        state=state,
        deadline_at=shown.deadline_at,
        operator=operator,
        threshold=shown.safe.threshold if shown.safe is not None else None,
        owners=sorted(shown.safe.owners) if shown.safe is not None else [],
        signed_by=list(shown.signed_by),
        safe_nonce=proposal.safe_tx.nonce if proposal is not None else None,
        safe_tx_hash="0x" + proposal.safe_tx.hash.hex() if proposal is not None else None,
        to=call.to,
        value_wei=call.value_wei,
        data="0x" + call.data.hex(),
        operation=int(call.operation),
    )
