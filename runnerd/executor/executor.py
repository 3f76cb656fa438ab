"""The door of the executor: a Decision comes in, is judged, and is committed together with what follows from it.

Owns the order "store, then act" and the day's spending. Signing is `lane`, watching is `follow`.
"""

import asyncio
import hashlib
import logging
from datetime import UTC, date, datetime, time

from protocol.actions import Noop
from protocol.codec import encode_outcome
from protocol.expectations import Expectation
from runnerd.catalogue import Catalogue
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import VaultAdapter
from runnerd.clock import Clock
from runnerd.executor.decided import Decided
from runnerd.executor.intent import Intent, IntentState
from runnerd.executor.lane import Lane
from runnerd.executor.measures import build_measures
from runnerd.executor.policy import Approved, Denied, judge
from runnerd.executor.review import Grant, find_objection
from runnerd.executor.tracked import Book
from runnerd.log import fields
from runnerd.pauses import Pauses
from runnerd.results import Results
from runnerd.store import calls, decisions, intents
from runnerd.store.calls import JobCall, JobOutcome
from runnerd.store.decisions import DecisionRecord
from runnerd.store.errors import StoreUnavailable
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.executor")

MAX_REASON = 500


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

    def grant_beside(self, call_id: int, now: datetime) -> Grant:
        """What is granted to this call today, beside what all the others have spent."""
        return Grant(
            chain_id=self.lane.network.config.id,
            wallet=self.lane.signer.address,
            address=self.address,
            catalogue=self.catalogue,
            adapter=self.adapter,
            spent_today_wei=self.spent_today(now) - self._spent_wei.get(call_id, 0),
        )

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
        self._tasks = Tasks()
        book.on_ended(self._on_ended)

    async def accept(self, decided: Decided) -> None:
        """Judge and store a Decision; give an approved one to its wallet, and its JobResult comes later.

        The work is the executor's own and outlives its caller: a plugin that is reloaded ends its host in the middle of
        a commit, which takes effect all the same. Raises StoreError; then nothing of the Decision stands.
        """
        work = self._tasks.spawn(self._settle(decided), f"decision:{decided.call.id}")
        try:
            error = await asyncio.shield(work)
        except asyncio.CancelledError:
            self._tasks.spawn(self._end_orphan(work, decided.call), f"orphan:{decided.call.id}")
            raise
        if error is not None:
            raise error

    async def close(self) -> None:
        """End what is under way. What is committed goes on with the next start."""
        await self._tasks.cancel()

    async def _settle(self, decided: Decided) -> Exception | None:
        """`_accept`, with its error as a value: there may be nobody any more to raise it to."""
        try:
            await self._accept(decided)
        except Exception as error:
            return error
        return None

    async def _end_orphan(self, work: "asyncio.Task[Exception | None]", call: JobCall) -> None:
        """Who asked is gone: what cannot be stored is ended here. A ledger that is away keeps the call as it was."""
        error = await work
        if error is None or isinstance(error, StoreUnavailable):
            return
        logger.error(
            "the Decision of call %d cannot be stored: %s", call.id, error, exc_info=error,
            extra=fields("decision_lost", plugin=call.plugin, call=call.id),
        )  # fmt: skip
        reason = f"the Decision cannot be stored: {type(error).__name__}: {error}"
        await self._results.finish(call, JobOutcome.FAILED, reason[:MAX_REASON])

    async def _accept(self, decided: Decided) -> None:
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
                await self._results.finish(decided.call, JobOutcome.DENIED, reason[:MAX_REASON], *with_decision)
            case Approved():
                measures = build_measures(outcome.expect, vault.catalogue, vault.address)
                if isinstance(measures, Denied):
                    reason = measures.reason[:MAX_REASON]
                    await self._results.finish(decided.call, JobOutcome.DENIED, reason, *with_decision)
                    return
                await self._plan(decided, vault, judgement, with_decision, outcome.expect)

    async def resume(self, vaults: frozenset[str]) -> None:
        """Take up what a former process left of these vaults: the day's spending, and planned intents.

        Only what today's configuration still grants is given to a lane, the rest is denied. Signed ones are `follow`'s.
        """
        served = vaults & self._vaults.keys()
        planned = [tracked for tracked in self._book.planned() if tracked.intent.vault in served]
        rows = await self._store.fetch(decisions.outcomes_of([tracked.intent.call_id for tracked in planned]))
        decided = {row["call_id"]: row["outcome"] for row in rows}
        now = self._clock.now()
        midnight = datetime.combine(now.date(), time.min, UTC)
        for row in await self._store.fetch(intents.spent_since(midnight)):
            if row["vault"] in served:
                self._vaults[row["vault"]].spend(row["call_id"], int(row["value_wei"]), now)
        for tracked in planned:
            call_id = tracked.intent.call_id
            grant = self._vaults[tracked.intent.vault].grant_beside(call_id, now)
            objection = find_objection(tracked.intent, decided.get(call_id), self._intent_id(call_id), grant)
            if objection is not None:
                await self._book.give_up(tracked, JobOutcome.DENIED, f"not granted any more: {objection}")
        # Only now: until here the ledger may fail us, and then all of this is done again.
        for tracked in planned:
            if tracked.intent.state is IntentState.PLANNED:
                self._vaults[tracked.intent.vault].lane.put(tracked)

    async def give_up_unconfigured(self, configured: frozenset[str]) -> None:
        """End what a former process planned for vaults that are not in the configuration any more."""
        for name in {tracked.intent.vault for tracked in self._book.planned()} - configured:
            await self.give_up_vault(name, f"vault {name} is not configured any more")

    async def give_up_vault(self, vault: str, reason: str) -> int:
        """The vault will not be served: end its planned intents as failed for `reason`. Returns how many there were.

        Nobody else would ever end them. Signed ones are `follow`'s: they may take effect. Not for a vault that is open.
        """
        assert vault not in self._vaults, f"vault {vault} is open, its lane has its intents"
        planned = [tracked for tracked in self._book.planned() if tracked.intent.vault == vault]
        for tracked in planned:
            await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: {reason}")
        return len(planned)

    async def _plan(
        self,
        decided: Decided,
        vault: VaultDesk,
        approved: Approved,
        with_decision: list[Statement],
        expect: tuple[Expectation, ...],
    ) -> None:
        call_id = decided.call.id
        try:
            calldata = vault.adapter.encode_batch(approved.calls, self._intent_id(call_id))
        except AbiError as error:
            await self._results.finish(decided.call, JobOutcome.DENIED, str(error)[:MAX_REASON], *with_decision)
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
            expect=expect,
        )
        now = self._clock.now()
        vault.spend(call_id, approved.value_wei, now)
        # Simulating only reads, so it need not wait for the commit. Signing does: it begins with `put`.
        rehearsing = asyncio.get_running_loop().create_task(vault.lane.rehearse(intent), name=f"rehearse:{call_id}")
        try:
            await self._store.commit(*with_decision, calls.decided(call_id), intents.plan(intent, now))
            # From here on nothing may raise: the intent stands in the ledger, and needs its lane.
            rehearsal = await rehearsing
        except Exception:
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
