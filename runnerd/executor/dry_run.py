"""The rest of a dry run: an intent that is never planned is simulated as its lane would, and what came of it is told.

Takes no nonce, signs nothing, counts nothing, stores nothing. Its call has no row in the ledger, which therefore takes
neither a Decision nor an intent of it.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from runnerd.chain.errors import ChainError
from runnerd.executor.draft import Draft
from runnerd.executor.intent import observe
from runnerd.executor.lane import Lane
from runnerd.executor.observation import Finish, SimulationReverted
from runnerd.executor.usage import Usage
from runnerd.executor.windows import Measure, Use
from runnerd.routing.rehearsed import Rehearsed
from runnerd.store.calls import JobOutcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the call would have ended, as far as that is known without a transaction."""

    outcome: JobOutcome
    reason: str
    rehearsed: Rehearsed


async def rehearse(
    planned: Draft, lane: Lane, usage: Usage, now: datetime, rehearsed: Rehearsed, *, needs_owners: bool
) -> Verdict:
    """Simulate `planned`. `rehearsed` is what is known already; `needs_owners`: its Safe wants signatures first."""
    intent = planned.intent
    rehearsed = replace(
        rehearsed,
        to=intent.target,
        calldata=intent.calldata,
        value_wei=intent.value_wei,
        standings=usage.standings(intent, planned.uses),
    )
    if needs_owners:
        reason = "it would wait for signatures of the Safe's owners; before that it cannot be simulated"
        return Verdict(JobOutcome.ACTED, reason, rehearsed)
    try:
        (prepared,) = await lane.prepare([intent])
    except ChainError as error:
        prepared = error
    if isinstance(prepared, ChainError):
        return Verdict(JobOutcome.FAILED, f"it cannot be simulated now, and would wait: {prepared}", rehearsed)
    if isinstance(prepared, SimulationReverted):
        _, effects = observe(intent, prepared, now, lane.network.rules)
        (finish,) = [effect for effect in effects if isinstance(effect, Finish)]
        return Verdict(finish.outcome, finish.reason, rehearsed)
    rehearsed = replace(rehearsed, block=prepared.block.number, gas_limit=prepared.gas_limit)
    cap = lane.fee_cap(intent)
    fees = prepared.market.capped(cap)
    if fees is None:
        return Verdict(JobOutcome.FAILED, f"it would wait: fees are above {cap} wei", rehearsed)
    gas_wei = prepared.gas_limit * fees.max_fee_per_gas_wei
    rehearsed = replace(
        rehearsed,
        max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
        max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
        standings=usage.standings(intent, (*planned.uses, Use(measure=Measure.GAS, amount=gas_wei))),
    )
    if (short := lane.purse.shortfall(gas_wei)) is not None:
        return Verdict(JobOutcome.FAILED, f"it would wait: {short}", rehearsed)
    if (objection := lane.gas.check(intent, gas_wei)) is not None:
        return Verdict(JobOutcome.DENIED, f"not signed: {objection}", rehearsed)
    if lane.problem is not None:
        return Verdict(JobOutcome.FAILED, f"not signed: {lane.problem}", rehearsed)
    return Verdict(JobOutcome.ACTED, f"simulation at block {prepared.block.number} succeeds", rehearsed)
