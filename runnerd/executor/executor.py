"""The door of the executor: a Decision comes in, is judged, and is committed together with what follows from it.

Owns the order "store, then act" and the day's spending. Signing is `lane`, watching is `follow`.
"""

import asyncio
import hashlib
from datetime import UTC, date, datetime, time

from protocol.actions import Noop
from protocol.codec import encode_outcome
from runnerd.catalogue import Catalogue
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import VaultAdapter
from runnerd.clock import Clock
from runnerd.executor.decided import Decided
from runnerd.executor.intent import Intent, IntentState
from runnerd.executor.lane import Lane
from runnerd.executor.policy import Approved, Denied, judge
from runnerd.executor.tracked import Book
from runnerd.pauses import Pauses
from runnerd.results import Results
from runnerd.store import calls, decisions, intents
from runnerd.store.calls import JobOutcome
from runnerd.store.decisions import DecisionRecord
from runnerd.store.errors import StoreError
from runnerd.store.statement import Statement
from runnerd.store.store import Store


class VaultDesk:
    """One vault in operation: its catalogue, its adapter, its wallet's lane, and what it spent today."""

    def __init__(self, name: str, address: str, catalogue: Catalogue, adapter: VaultAdapter, lane: Lane) -> None:
        self.name = name
        self.address = address
        self.catalogue = catalogue
        self.adapter = adapter
        self.lane = lane
        self._spent_wei: dict[int, int] = {}
        self._day = date.min

    def spent_today(self, now: datetime) -> int:
        """Wei sent, or on the way, since midnight UTC."""
        self._turn_page(now)
        return sum(self._spent_wei.values())

    def spend(self, call_id: int, value_wei: int, now: datetime) -> None:
        """Count what an approved Decision may send. Counted before the commit: two at once cannot both fit."""
        self._turn_page(now)
        if value_wei:
            self._spent_wei[call_id] = value_wei

    def give_back(self, call_id: int) -> None:
        """It ended without effect. What was spent on another day is not given back to this one."""
        self._spent_wei.pop(call_id, None)

    def _turn_page(self, now: datetime) -> None:
        if now.date() != self._day:
            self._day = now.date()
            self._spent_wei.clear()


class Executor:
    """`supervisor.context.Executor`. `vaults` by name; a Decision for another cannot come, its plugin was refused."""

    def __init__(
        self,
        vaults: dict[str, VaultDesk],
        ledger_id: bytes,
        store: Store,
        results: Results,
        pauses: Pauses,
        book: Book,
        clock: Clock,
    ) -> None:
        self._vaults = vaults
        self._ledger_id = ledger_id
        self._store = store
        self._results = results
        self._pauses = pauses
        self._book = book
        self._clock = clock
        book.on_ended(self._on_ended)

    async def accept(self, decided: Decided) -> None:
        """Judge and store a Decision; give an approved one to its wallet, and its JobResult comes later."""
        with_decision = [
            decisions.insert(_record(decided)),
            *decisions.write_state(decided.call.plugin, decided.state_writes),
        ]
        outcome = decided.outcome
        if isinstance(outcome, Noop):
            await self._results.finish(decided.call, JobOutcome.NOOP, outcome.reason, *with_decision)
            return
        pause = self._pauses.of(decided.call.plugin, decided.vault)
        if pause is not None:
            await self._results.finish(decided.call, JobOutcome.DENIED, str(pause), *with_decision)
            return
        vault = self._vaults[decided.vault]
        now = self._clock.now()
        judgement = judge(outcome.actions, vault.catalogue, vault.spent_today(now))
        match judgement:
            case Denied(reason):
                await self._results.finish(decided.call, JobOutcome.DENIED, reason[:500], *with_decision)
            case Approved():
                await self._plan(decided, vault, judgement, with_decision)

    async def resume(self, vaults: frozenset[str]) -> None:
        """Take up what a former process left of these vaults: the day's spending, and planned intents.

        Signed ones are `follow`'s.
        """
        now = self._clock.now()
        midnight = datetime.combine(now.date(), time.min, UTC)
        for row in await self._store.fetch(intents.spent_since(midnight)):
            if row["vault"] in vaults & self._vaults.keys():
                self._vaults[row["vault"]].spend(row["call_id"], int(row["value_wei"]), now)
        for tracked in self._book.open.values():
            if tracked.intent.state is IntentState.PLANNED and tracked.intent.vault in vaults & self._vaults.keys():
                self._vaults[tracked.intent.vault].lane.put(tracked)

    async def _plan(
        self, decided: Decided, vault: VaultDesk, approved: Approved, with_decision: list[Statement]
    ) -> None:
        call_id = decided.call.id
        try:
            calldata = vault.adapter.encode_batch(approved.calls, self._intent_id(call_id))
        except AbiError as error:
            await self._results.finish(decided.call, JobOutcome.DENIED, str(error)[:500], *with_decision)
            return
        intent = Intent(
            call_id=call_id,
            plugin=decided.call.plugin,
            vault=vault.name,
            chain_id=vault.lane.network.config.id,
            wallet=vault.lane.signer.address,
            target=vault.address,
            calldata=calldata,
            value_wei=approved.value_wei,
        )
        now = self._clock.now()
        vault.spend(call_id, approved.value_wei, now)
        # Simulating only reads, so it need not wait for the commit. Signing does: it begins with `put`.
        rehearsing = asyncio.get_running_loop().create_task(vault.lane.rehearse(intent), name=f"rehearse:{call_id}")
        try:
            await self._store.commit(*with_decision, calls.decided(call_id), intents.plan(intent, now))
            rehearsal = await rehearsing
        except StoreError:
            vault.give_back(call_id)
            raise
        finally:
            rehearsing.cancel()
        tracked = self._book.add(intent, decided.call)
        tracked.rehearsal = rehearsal
        vault.lane.put(tracked)

    def _intent_id(self, call_id: int) -> bytes:
        """32 bytes, unique to this ledger and call: the vault refuses a second execution under the same id."""
        return hashlib.sha256(self._ledger_id + call_id.to_bytes(8, "big")).digest()

    def _on_ended(self, intent: Intent) -> None:
        if intent.state in (IntentState.DENIED, IntentState.REVERTED) and intent.vault in self._vaults:
            self._vaults[intent.vault].give_back(intent.call_id)


def _record(decided: Decided) -> DecisionRecord:
    return DecisionRecord(
        call_id=decided.call.id,
        plugin=decided.call.plugin,
        generation=decided.generation,
        digest=decided.digest,
        attempt=decided.attempt,
        context=decided.context,
        outcome=encode_outcome(decided.outcome),
        decided_at=decided.decided_at,
        decide_ms=decided.decide_ms,
    )
