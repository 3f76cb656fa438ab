"""Whether what a former process planned is still what today's configuration grants. Pure; asked by the executor.

A planned intent may be older than the configuration: another wallet, another vault address, a narrower catalogue. It is
judged again from its stored Decision, and must come to the very calldata that was planned then.
"""

from dataclasses import dataclass

from protocol.actions import Act
from protocol.codec import decode_outcome
from protocol.errors import ProtocolError
from runnerd.catalogue import Catalogue
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import VaultAdapter
from runnerd.executor.intent import Intent
from runnerd.executor.measures import build_measures
from runnerd.executor.policy import Denied, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the vault of an intent is, and grants, today. `spent_today_wei` is without the intent's own."""

    chain_id: int
    wallet: str
    address: str
    catalogue: Catalogue
    adapter: VaultAdapter
    spent_today_wei: int


def find_objection(intent: Intent, decision: str | None, intent_id: bytes, grant: Grant) -> str | None:
    """Why `intent`, planned from the stored outcome `decision`, must not be signed any more; None if it may be."""
    for what, planned, today in (
        ("chain", intent.chain_id, grant.chain_id),
        ("wallet", intent.wallet, grant.wallet),
        ("vault's address", intent.target, grant.address),
    ):
        if planned != today:
            return f"its {what} was {planned}, it is {today} now"
    if decision is None:
        return "its Decision is not in the ledger"
    try:
        outcome = decode_outcome(decision)
    except ProtocolError as error:
        return f"its Decision cannot be read: {error}"
    if not isinstance(outcome, Act):
        return "its Decision asks for nothing"
    judgement = judge(outcome.actions, grant.catalogue, grant.spent_today_wei)
    if isinstance(judgement, Denied):
        return judgement.reason
    measures = build_measures(outcome.expect, grant.catalogue, grant.address)
    if isinstance(measures, Denied):
        return measures.reason
    try:
        calldata = grant.adapter.encode_batch(judgement.calls, intent_id)
    except AbiError as error:
        return str(error)
    if (calldata, judgement.value_wei) != (intent.calldata, intent.value_wei):
        return "the catalogue makes other calls of its Decision now"
    return None
