"""The audit trail beside the tables: what runnerd does in the ordinary course is no finding, and a changed row is one.

What owners of a Safe sign, what cancels, and what fills a gap; calls that simply act are in `test_audit`.
"""

import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runnerd.chain.vaults.multisend import Operation
from runnerd.chain.vaults.safe_tx import SafeTx
from runnerd.executor.proposal import Approval, Proposal
from runnerd.executor.wanted import AttemptKind, Cancellation, Intent, IntentState
from runnerd.store import audit, calls, foreign, intents, proposals
from runnerd.store.foreign import Filler
from runnerd.store.store import Store
from tests.store.test_audit import (
    AT,
    ATTEMPT,
    FILLER,
    OTHER_TX,
    TX,
    WALLET,
    execute,
    lives,
    opened,
    records_of,
    tamper,
    verify,
)
from tests.store.test_statements import new_call
from tests.support.aio import run_async

SAFE = "0x" + "5a" * 20
ADA, BEN = "0x" + "ad" * 20, "0x" + "be" * 20
SAFE_TX = SafeTx(chain_id=31337, safe=SAFE, to=WALLET, value_wei=0, data=b"", operation=Operation.CALL, nonce=7)
PLANNED, COMPLETED = b"planned", b"planned, and signed by ada and ben"


def commit(dsn: str, scenario: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on the ledger."""

    async def whole() -> None:
        async with opened(dsn) as store:
            await scenario(store)

    run_async(whole())


def findings(dsn: str, from_seq: int = 1) -> list[str]:
    """What `verify` says."""
    return [found.what for found in verify(dsn, from_seq).findings]


async def planned(store: Store) -> Intent:
    """A call whose intent is wanted on chain."""
    asked = new_call("alpha", "one")
    ((row,),) = await store.commit(calls.insert(asked))
    intent = Intent(
        call_id=calls.inserted(asked, row).id, plugin="alpha", vault="main", chain_id=31337, wallet=WALLET,
        target=SAFE, calldata=PLANNED, value_wei=0, deadline_at=AT,
    )  # fmt: skip
    await store.commit(intents.plan(intent, AT), audit.append(audit.planned(intent, AT)))
    return intent


# --- proposals of a Safe ---------------------------------------------------------------------------------------------


async def propose(store: Store) -> Intent:
    """Ada and ben have signed for call 1, which is not complete yet."""
    intent = await planned(store)
    proposal = Proposal(call_id=intent.call_id, safe_tx=SAFE_TX, opened_block=1, deadline_at=AT)
    await store.commit(proposals.add(proposal, AT))
    for owner, principal in ((ADA, "uid:1000"), (BEN, "uid:1001")):
        approval = Approval(owner, f"signature of {owner}".encode())
        trail = audit.append(audit.signature(proposal, approval, principal, AT))
        await store.commit(proposals.add_signature(proposal, approval, principal, AT), trail)
    return intent


async def complete(store: Store, intent: Intent) -> None:
    """The signatures take the place of the calldata without."""
    trail = audit.append(audit.completed(intent, COMPLETED, AT))
    await store.commit(proposals.complete(intent.call_id, COMPLETED, AT), trail)


async def carry_out(store: Store) -> None:
    """Both."""
    await complete(store, await propose(store))


def test_a_completed_proposal_is_whole(ledger_dsn: str) -> None:
    """Before it is complete, and when its calldata has been replaced by what the owners signed."""
    commit(ledger_dsn, carry_out)
    assert findings(ledger_dsn) == []
    assert verify(ledger_dsn).compared["signatures"] == 2
    (intent,) = execute(ledger_dsn, "select calldata from intents")
    assert intent["calldata"] == COMPLETED


def test_a_proposal_that_is_not_complete_is_whole(ledger_dsn: str) -> None:
    """Its calldata is still the planned one."""

    async def scenario(store: Store) -> None:
        await propose(store)

    commit(ledger_dsn, scenario)
    assert findings(ledger_dsn) == []


def test_the_records_of_a_proposal_say_who_signed_and_what_was_replaced(ledger_dsn: str) -> None:
    """Once each, however often the commit is run."""

    async def scenario(store: Store) -> None:
        intent = await propose(store)
        for _ in range(2):
            await complete(store, intent)

    commit(ledger_dsn, scenario)
    found = {record.key: (record.call_id, json.loads(record.body)) for record in records_of(ledger_dsn)[2:]}
    safe_tx = "0x" + SAFE_TX.hash.hex()
    assert found == {
        f"signature:1:{owner}": (
            1,
            {
                "principal": principal, "owner": owner, "safe_tx_hash": safe_tx,
                "signature_sha256": audit.digest(f"signature of {owner}"),
            },
        )
        for owner, principal in ((ADA, "uid:1000"), (BEN, "uid:1001"))
    } | {
        "completed:1": (
            1,
            {"calldata_sha256": audit.digest(COMPLETED), "calldata_sha256_before": audit.digest(PLANNED)},
        )
    }  # fmt: skip


INTENT = "the intent of call 1 is not as in record 2 (planned:1) and record 5 (completed:1): "
BEN_SIGNED = f"the signature of {BEN} for call 1 is not as in record 4 (signature:1:{BEN}): "
SAFE_CHANGES = {
    "update intents set calldata = 'x'": INTENT + "calldata_sha256",
    "update intents set calldata = 'planned'": INTENT + "calldata_sha256",
    "update intents set vault = 'other'": INTENT + "vault",
    f"update safe_signatures set signature = 'x' where owner = '{BEN}'": BEN_SIGNED + "signature_sha256",
    f"update safe_signatures set by = 'uid:0' where owner = '{BEN}'": BEN_SIGNED + "principal",
    f"update safe_signatures set safe_tx_hash = 'x' where owner = '{BEN}'": BEN_SIGNED + "safe_tx_hash",
    f"delete from safe_signatures where owner = '{BEN}'": f"record 4 (signature:1:{BEN}) has no row in its table",
    f"insert into safe_signatures values (1, 'x', '{WALLET}', 'x', 'uid:0', now())": (
        f"the signature of {WALLET} for call 1 has no record"
    ),
}


@pytest.mark.parametrize("change", SAFE_CHANGES)
def test_a_changed_row_of_a_proposal_is_named(ledger_dsn: str, change: str) -> None:
    """Also back to what was planned, and also when only the later record is among those that are verified."""
    commit(ledger_dsn, carry_out)
    execute(ledger_dsn, change)
    assert findings(ledger_dsn) == [SAFE_CHANGES[change]]
    if "intents" in change:
        assert findings(ledger_dsn, 5) == [SAFE_CHANGES[change]]


def test_calldata_that_was_changed_before_its_completion_is_named(ledger_dsn: str) -> None:
    """A restart takes up what stands in the row: the record of the completion must not vouch for it."""

    async def scenario(store: Store) -> None:
        intent = await propose(store)
        execute(ledger_dsn, "update intents set calldata = 'theirs'")
        await complete(store, replace(intent, calldata=b"theirs"))

    commit(ledger_dsn, scenario)
    assert findings(ledger_dsn) == [INTENT + "calldata_sha256"]


def test_a_completion_that_somebody_made_unreadable_is_named(ledger_dsn: str) -> None:
    """And does not end the command."""
    commit(ledger_dsn, carry_out)
    tamper(ledger_dsn, "update audit_records set body = '[[[' where seq = 5")
    changed, intent = findings(ledger_dsn)
    assert changed.startswith("record 5 (completed:1) was changed")
    assert intent == INTENT + "calldata_sha256"


# --- attempts --------------------------------------------------------------------------------------------------------


async def cancel(store: Store) -> None:
    """Call 1 is signed, and a no-op after it."""
    intent = replace(await planned(store), nonce=0)
    noop = replace(ATTEMPT, hash=OTHER_TX, kind=AttemptKind.NOOP)
    await store.commit(intents.set_wallet(31337, WALLET, 0))
    await store.commit(
        intents.allot_nonces([intent], 0, [ATTEMPT], AT), audit.append(audit.attempt(intent, 0, ATTEMPT, AT))
    )
    await store.commit(
        intents.add_attempt(intent, noop, AT, Cancellation(IntentState.CANCELLED, "uid:1 asked")),
        audit.append(audit.attempt(intent, 0, noop, AT, "cancel")),
    )


def test_a_cancelled_call_is_whole(ledger_dsn: str) -> None:
    """What a signature is for agrees with what the attempt does."""
    commit(ledger_dsn, cancel)
    assert findings(ledger_dsn) == []
    assert verify(ledger_dsn).compared["attempts"] == 2


@pytest.mark.parametrize("tx, kind, seq", [(TX, "noop", 3), (OTHER_TX, "batch", 4)])
def test_an_attempt_that_was_made_one_of_another_kind_is_named(ledger_dsn: str, tx: str, kind: str, seq: int) -> None:
    """A batch that is called a no-op would count as nothing having happened."""
    commit(ledger_dsn, cancel)
    execute(ledger_dsn, f"update attempts set kind = '{kind}' where hash = '{tx}'")
    assert findings(ledger_dsn) == [f"the attempt {tx} is not as in record {seq} (attempt:{tx}): purpose"]


def test_an_attempt_that_was_given_to_another_call_is_named(ledger_dsn: str) -> None:
    """Its record is of the call that it was signed for."""
    for _ in range(2):
        run_async(lives(ledger_dsn))
    execute(ledger_dsn, f"update attempts set call_id = 3 where hash = '{TX}'")
    assert findings(ledger_dsn) == [f"the attempt {TX} is not as in record 4 (attempt:{TX}): call_id"]


# --- fillers ---------------------------------------------------------------------------------------------------------


async def fill(store: Store, filler: Filler = FILLER) -> None:
    """A gap is filled: signed later than the trail was opened."""
    now = datetime.now(UTC)
    trail = audit.append(audit.filler(31337, WALLET, filler, now))
    await store.commit(foreign.add_filler(31337, WALLET, filler, now), trail)


def test_a_filled_gap_is_whole(ledger_dsn: str) -> None:
    """Beside attempts, whose records are of the same kind."""

    async def scenario(store: Store) -> None:
        await cancel(store)
        await fill(store, replace(FILLER, hash="0x" + "ef" * 32))

    commit(ledger_dsn, scenario)
    assert findings(ledger_dsn) == []
    compared = verify(ledger_dsn).compared
    assert (compared["attempts"], compared["fillers"]) == (2, 1)


FILLED = f"the filler {OTHER_TX} is not as in record 2 (attempt:{OTHER_TX}): "
FILLER_CHANGES = {
    "update fillers set raw = 'x'": FILLED + "raw_sha256",
    "update fillers set nonce = 9, signed_block = 9": FILLED + "nonce, signed_block",
    "update fillers set chain_id = 1, wallet = 'x'": FILLED + "chain_id, wallet",
    "update fillers set max_fee_per_gas_wei = 1, max_priority_fee_wei = 1": (
        FILLED + "max_fee_per_gas_wei, max_priority_fee_wei"
    ),
    "delete from fillers": f"record 2 (attempt:{OTHER_TX}) has no row in its table",
    "insert into fillers select 'another', chain_id, wallet, 9, raw, 1, 1, now(), 1 from fillers": (
        "the filler another has no record"
    ),
}


@pytest.mark.parametrize("change", FILLER_CHANGES)
def test_a_changed_filler_is_named(ledger_dsn: str, change: str) -> None:
    """As an attempt is."""
    commit(ledger_dsn, fill)
    execute(ledger_dsn, change)
    assert findings(ledger_dsn) == [FILLER_CHANGES[change]]


def test_a_filler_that_is_older_than_the_trail_needs_no_record(ledger_dsn: str) -> None:
    """It belongs to no call, so its time says so."""

    async def scenario(store: Store) -> None:
        await store.commit(foreign.add_filler(31337, WALLET, FILLER, datetime(2020, 1, 1, tzinfo=UTC)))

    commit(ledger_dsn, scenario)
    assert findings(ledger_dsn) == []
