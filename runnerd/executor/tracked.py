"""An intent under way, with its call: the one mutable place where its state is kept in step with the ledger."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg.rows import DictRow

from protocol.errors import ProtocolError
from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.executor.attempt import Prepared
from runnerd.executor.expectations import expected_by
from runnerd.executor.intent import Rules, observe
from runnerd.executor.observation import Died, Effect, Finish, Mined, Observation
from runnerd.executor.usage import GasBudget
from runnerd.executor.wanted import ENDED, Intent, IntentState
from runnerd.log import fields
from runnerd.routing.results import Results
from runnerd.store import audit, decisions, intents
from runnerd.store.audit import Record
from runnerd.store.calls import JobCall, JobOutcome, from_row
from runnerd.store.errors import StoreError
from runnerd.store.statement import Statement
from runnerd.store.store import Store

logger = logging.getLogger("runnerd.executor")

MAX_REASON = 500
"""Characters of a reason that the ledger keeps."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The outcome of a simulation, and when it was made (monotonic seconds)."""

    outcome: Prepared
    at: float


class AlreadySigned(Exception):
    """A signed intent was to be given up, though its transaction may take effect: a defect in the shell."""

    def __init__(self, call_id: int) -> None:
        super().__init__(f"intent {call_id} was signed, and cannot be given up")


class Tracked:
    """One open intent. `see` applies an observation, stores what changed, and returns what is to be done."""

    def __init__(self, intent: Intent, call: JobCall, book: "Book") -> None:
        self.intent = intent
        self.call = call
        self.is_busy = False
        """Somebody signs or sends for it: one at a time, or two replacements would have the same fees."""
        self.in_turn_since: int | None = None
        """The block from which on no lower nonce of its wallet was waiting; None while one is."""
        self._was_behind = False
        self.seen: Mined | None = None
        """Where it is included, as far as this process has seen."""
        self.rehearsal: Rehearsal | None = None
        """A simulation that was made while the Decision was being committed; the lane uses it while it is fresh."""
        self.postponed = ""
        """Why it could not be signed when its turn was there last."""
        self.withdrawn: str | None = None
        """Why an operator wants its end: the lane signs it no more, and `follow` asks for the no-op in its place."""
        self._book = book

    def take_turn(self, head: int, *, is_lowest: bool) -> None:
        """Note at block `head` whether every lower nonce of its wallet is used."""
        if not is_lowest:
            self.in_turn_since, self._was_behind = None, True
        elif self.in_turn_since is None or self.in_turn_since > head:
            self.in_turn_since = head if self._was_behind else min(head, self.intent.latest.signed_block)

    def note(self, observation: Observation, rules: Rules) -> tuple[Effect, ...]:
        """Apply an observation whose record stands in the ledger already."""
        self.intent, effects = observe(self.intent, observation, self._book.clock.now(), rules)
        return effects

    async def see(self, observation: Observation, rules: Rules, *also: Statement, note: str = "") -> tuple[Effect, ...]:
        """Apply `observation`. The state in memory moves at once, the commit follows in the same order.

        A `Finish` is carried out here: the intent's end and the JobResult are one transaction. `note` is added to its
        reason.
        """
        before, seen_before = self.intent, self.seen
        now = self._book.clock.now()
        self.intent, effects = observe(before, observation, now, rules)
        changes, records = self._changes(before, observation, now)
        changes = [*also, *changes]
        finish = next((effect for effect in effects if isinstance(effect, Finish)), None)
        after = self.intent
        try:
            if finish is not None:
                reason = f"{finish.reason}; {note}" if note else finish.reason
                await self._book.end(self, replace(finish, reason=reason), changes, records)
            elif changes or records:
                if isinstance(observation, Mined):
                    reached("inclusion.storing")
                await self._book.store.commit(*changes, *([audit.append(*records)] if records else []))
                if isinstance(observation, Mined):
                    reached("inclusion.stored")
                elif isinstance(observation, Died):
                    reached("death.stored")
                elif before.state is IntentState.INCLUDED:
                    reached("fallen.stored")
        except StoreError:
            # Nothing of it stands in the ledger: go back, so that the next observation tries it again. What was stored
            # and noted meanwhile stays.
            noted = self.intent
            is_noted = noted is not after and noted.nonce == before.nonce
            self.seen = seen_before
            self.intent = (
                replace(before, attempts=noted.attempts, cancellation=noted.cancellation) if is_noted else before
            )
            raise
        return tuple(effect for effect in effects if effect is not finish)

    def _changes(self, before: Intent, observation: Observation, now: datetime) -> tuple[list[Statement], list[Record]]:
        """What the ledger and the audit trail must say, once `self.intent` has moved on from `before`."""
        call_id, after = before.call_id, self.intent
        changes: list[Statement] = []
        records: list[Record] = []
        is_included = before.state is IntentState.INCLUDED
        if isinstance(observation, Mined):
            place = (observation.hash, observation.block_hash)
            if self.seen is None or (self.seen.hash, self.seen.block_hash) != place:
                if is_included:  # a reorg, perhaps into another attempt than before: only one of them is in a block
                    changes.append(intents.fell_out(call_id))
                changes.append(intents.mined(observation))
                records.append(audit.included(after, observation, now))
            self.seen = observation
            if after.state in ENDED:
                records.append(audit.settled(after, observation, now))
                changes += self._book.pay_gas(call_id, observation.gas_used * observation.effective_gas_price_wei)
        elif is_included and after.state is not IntentState.INCLUDED:
            self.seen = None
            changes.append(intents.fell_out(call_id))
            records.append(audit.fell_out(after, now))
        if isinstance(observation, Died):
            changes.append(intents.died(call_id, observation.by, now))
            changes += self._book.pay_gas(call_id, 0)
        if after.state is not before.state:
            changes.append(intents.set_state(call_id, after.state, now))
            logger.info(
                "intent %d: %s -> %s", call_id, before.state, after.state,
                extra=fields("intent_state", plugin=after.plugin, call=call_id, state=after.state.value,
                             nonce=after.nonce),
            )  # fmt: skip
        return changes, records


class Book:
    """All open intents, by call id.

    An intent stays in `open` until its end stands in the ledger: what is not stored has not happened and is seen again.
    What is observed while that commit is under way changes nothing, since its state in memory is an end already.
    """

    def __init__(self, store: Store, results: Results, clock: Clock, gas: GasBudget | None = None) -> None:
        self._gas = gas
        self.store = store
        self.clock = clock
        self.open: dict[int, Tracked] = {}
        self._results = results
        self._on_ended: list[Callable[[Intent], None]] = []

    def pay_gas(self, call_id: int, paid_wei: int) -> list[Statement]:
        """What an intent has really cost, in place of what was reserved for it; to commit with its end."""
        return [] if self._gas is None else [self._gas.settle(call_id, paid_wei)]

    def on_ended(self, listener: Callable[[Intent], None]) -> None:
        """Call `listener` with each intent that has ended."""
        self._on_ended.append(listener)

    def add(self, intent: Intent, call: JobCall) -> Tracked:
        """Track an intent that stands in the ledger."""
        tracked = Tracked(intent, call, self)
        if intent.state not in ENDED:
            self.open[intent.call_id] = tracked
        return tracked

    def states(self) -> dict[str, int]:
        """How many open intents there are in each state."""
        return dict(Counter(tracked.intent.state.value for tracked in self.open.values()))

    def planned(self) -> list[Tracked]:
        """The open intents that were never signed, oldest first."""
        return [t for t in self.open.values() if t.intent.state is IntentState.PLANNED and not t.intent.attempts]

    def nonces(self, chain_id: int, wallet: str) -> set[int | None]:
        """The nonces of a wallet's signed intents that have not ended."""
        return {t.intent.nonce for t in self.of_chain(chain_id) if t.intent.wallet == wallet}

    def of_chain(self, chain_id: int) -> list[Tracked]:
        """The open intents of one chain that were signed, oldest first."""
        return [t for t in self.open.values() if t.intent.chain_id == chain_id and t.intent.attempts]

    def in_flight(self, chain_id: int, wallet: str) -> int:
        """How many signed intents of a wallet wait for their inclusion."""
        return sum(
            1
            for t in self.of_chain(chain_id)
            if t.intent.wallet == wallet and t.intent.state is not IntentState.INCLUDED
        )

    def promised_wei(self, chain_id: int, wallet: str) -> int:
        """The most that a wallet's signed intents may still cost it, as the nodes count it."""
        return sum(
            t.intent.latest.gas_limit * t.intent.latest.fees.max_fee_per_gas_wei
            for t in self.of_chain(chain_id)
            if t.intent.wallet == wallet and t.intent.state is not IntentState.INCLUDED
        )

    async def end(
        self, tracked: Tracked, finish: Finish, changes: list[Statement], records: Sequence[Record] = ()
    ) -> None:
        """The end of an intent and of its call, in one commit."""
        reason = finish.reason[:MAX_REASON]
        await self._results.finish(
            tracked.call, finish.outcome, reason, *changes, transaction=finish.hash or None, records=records
        )
        self._close(tracked)

    async def give_up(self, tracked: Tracked, outcome: JobOutcome, reason: str) -> None:
        """End an intent that was never signed. Raises AlreadySigned: what was signed may take effect."""
        before = tracked.intent
        if before.attempts:
            raise AlreadySigned(before.call_id)
        state = IntentState.EXPIRED if outcome is JobOutcome.EXPIRED else IntentState.DENIED
        change = intents.give_up(before.call_id, state, self.clock.now(), reason)
        tracked.intent = replace(before, state=state)
        try:
            await self._results.finish(tracked.call, outcome, reason[:MAX_REASON], change)
        except StoreError:
            tracked.intent = before
            raise
        self._close(tracked)

    def _close(self, tracked: Tracked) -> None:
        self.open.pop(tracked.intent.call_id, None)
        for listener in self._on_ended:
            listener(tracked.intent)


async def load_book(book: Book, intent_rows: list[DictRow]) -> None:
    """Track what a former process left open."""
    ids = [row["call_id"] for row in intent_rows]
    attempt_rows = await book.store.fetch(intents.attempts_of(ids))
    call_rows = await book.store.fetch(intents.calls_of(ids))
    jobs = {row["id"]: from_row(row) for row in call_rows}
    decided = {row["call_id"]: row["outcome"] for row in await book.store.fetch(decisions.outcomes_of(ids))}
    for intent in intents.from_rows(intent_rows, attempt_rows):
        book.add(_with_expectations(intent, decided.get(intent.call_id)), jobs[intent.call_id])


def _with_expectations(intent: Intent, decision: str | None) -> Intent:
    try:
        return replace(intent, expect=expected_by(decision))
    except ProtocolError as error:  # of a release with wider limits; what is only planned is denied for it elsewhere
        logger.error(
            "what call %d expects cannot be read, and will not be checked: %s", intent.call_id, error,
            extra=fields("expectations_lost", plugin=intent.plugin, call=intent.call_id),
        )  # fmt: skip
        return intent
