"""From a Decision to the intent that would be planned for it, or why none is. Pure: nothing is counted or stored.

The executor plans what comes of it; a dry run only shows it. So both judge by the same words in the same order.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from protocol.actions import Act
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import VaultAdapter
from runnerd.executor.decided import Decided
from runnerd.executor.measures import build_measures
from runnerd.executor.policy import Circumstances, Denied, judge
from runnerd.executor.wanted import Intent
from runnerd.executor.windows import Use
from runnerd.pauses import Pauses
from runnerd.vaults.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a vault is and grants now, and the wallet that signs for it. Its `circumstances` are without what the call
    in question counts already."""

    vault: str
    chain_id: int
    wallet: str
    catalogue: Catalogue
    adapter: VaultAdapter
    circumstances: Circumstances


@dataclass(frozen=True, slots=True)
class Draft:
    """An intent that is granted, and what it counts against rolling limits."""

    intent: Intent
    uses: tuple[Use, ...]


def draft(decided: Decided, act: Act, grant: Grant, pauses: Pauses, intent_id: bytes, now: datetime) -> Draft | Denied:
    """The intent of a Decision. Whoever counts it must not wait in between: two at once could not both fit."""
    call = decided.call
    objection = pauses.objection(call.plugin, grant.vault, [action.name for action in act.actions])
    if objection is not None:
        return Denied(objection)
    judgement = judge(act.actions, grant.catalogue, grant.circumstances)
    if isinstance(judgement, Denied):
        return judgement
    measures = build_measures(act.expect, grant.catalogue, grant.adapter.address)
    if isinstance(measures, Denied):
        return measures
    try:
        batch = grant.adapter.build(judgement.calls, intent_id)
    except AbiError as error:
        return Denied(str(error))
    intent = Intent(
        call_id=call.id,
        plugin=call.plugin,
        vault=grant.vault,
        chain_id=grant.chain_id,
        wallet=grant.wallet,
        target=batch.to,
        calldata=batch.data,
        value_wei=judgement.value_wei,
        deadline_at=now + timedelta(seconds=decided.terms.deadline_s),
        route=decided.terms.route,
        max_fee_per_gas_wei=decided.terms.max_fee_per_gas_wei,
        actions=tuple(action.name for action in act.actions),
        expect=act.expect,
    )
    return Draft(intent, judgement.uses)
