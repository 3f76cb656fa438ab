"""Whether what a former process planned is still what today's configuration grants. Pure; asked by the executor.

A planned intent may be older than the configuration: another wallet, another vault address, a narrower catalogue. It is
judged again from its stored Decision, and must come to the very calldata that was planned then.
"""

from protocol.actions import Act
from protocol.codec import decode_outcome
from protocol.errors import ProtocolError
from runnerd.chain.errors import AbiError
from runnerd.executor.draft import Grant
from runnerd.executor.measures import build_measures
from runnerd.executor.policy import Denied, judge
from runnerd.executor.wanted import Intent


def find_objection(intent: Intent, decision: str | None, intent_id: bytes, grant: Grant) -> str | None:
    """Why `intent`, planned from the stored outcome `decision`, must not be signed any more; None if it may be."""
    for what, planned, today in (
        ("chain", intent.chain_id, grant.chain_id),
        ("wallet", intent.wallet, grant.wallet),
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
    judgement = judge(outcome.actions, grant.catalogue, grant.circumstances)
    if isinstance(judgement, Denied):
        return judgement.reason
    measures = build_measures(outcome.expect, grant.catalogue, grant.adapter.address)
    if isinstance(measures, Denied):
        return measures.reason
    try:
        batch = grant.adapter.build(judgement.calls, intent_id)
        planned_data = grant.adapter.without_signatures(intent.calldata)
    except AbiError as error:
        return str(error)
    if batch.to != intent.target:
        return f"its vault's address was {intent.target}, it is {batch.to} now"
    if (batch.data, judgement.value_wei) != (planned_data, intent.value_wei):
        return "the catalogue makes other calls of its Decision now"
    return None
