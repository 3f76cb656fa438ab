"""Requests and replies about a Safe's proposals: what `runnerctl safe` says. Part of `control.messages`."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from runnerd.control.message import Message


class GetProposals(Message, frozen=True, tag="proposals"):
    """Which transactions wait for signatures of a Safe's owners?"""


class SignProposal(Message, frozen=True, tag="sign_proposal"):
    """An owner's signature of a call's proposal, in hex: 65 bytes, r, s and v."""

    call_id: int
    signature: Annotated[str, Meta(max_length=200)]


class RejectProposal(Message, frozen=True, tag="reject_proposal"):
    """End a call's proposal as denied."""

    call_id: int


SafeRequest: TypeAlias = GetProposals | SignProposal | RejectProposal


class Proposal(Struct, frozen=True, kw_only=True):
    """A transaction that waits for owners' signatures: all that they sign. `state` is waiting, collecting or complete.

    While it waits for the one before it there is no nonce and no hash, and nothing can be signed.
    """

    call_id: int
    plugin: str
    vault: str
    chain_id: int
    safe: str
    state: str
    deadline_at: datetime
    operator: str
    threshold: int | None
    owners: list[str]
    signed_by: list[str]
    safe_nonce: int | None
    safe_tx_hash: str | None
    to: str
    value_wei: int
    data: str
    operation: int


class Proposals(Message, frozen=True, tag="proposals_reply"):
    """By Safe; the one that can be signed first."""

    proposals: list[Proposal]
