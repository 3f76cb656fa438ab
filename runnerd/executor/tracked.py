"""An intent under way, with its call: the one mutable place where its state is kept in step with the ledger."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from psycopg.rows import DictRow

from protocol.errors import ProtocolError
from runnerd.chain.fees import Fees
from runnerd.chain.types import Block
from runnerd.clock import Clock
from runnerd.executor.expectations import ExpectationBroken, expected_by
from runnerd.executor.intent import (
    ENDED,
    Effect,
    Finish,
    Intent,
    IntentState,
    Mined,
    NonceTaken,
    NotSeen,
    Observation,
    Patience,
    SimulationReverted,
    observe,
)
from runnerd.log import fields
from runnerd.results import Results
from runnerd.store import decisions, intents
from runnerd.store.calls import JobCall, JobOutcome, from_row
from runnerd.store.errors import StoreError
from runnerd.store.statement import Statement
from runnerd.store.store import Store

logger = logging.getLogger("runnerd.executor")


@dataclass(frozen=True, slots=True)
class Ready:
    """What signing needs, all of one block: the simulation there succeeded."""

    block: Block
    gas_limit: int
    fees: Fees


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The outcome of a simulation, and when it was made (monotonic seconds)."""

    outcome: Ready | SimulationReverted | ExpectationBroken
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
        self.is_replacing = False
        self.rehearsal: Rehearsal | None = None
        """A simulation that was made while the Decision was being committed; the lane uses it while it is fresh."""
        self._book = book

    def note(self, observation: Observation, patience: Patience) -> tuple[Effect, ...]:
        """Apply an observation whose record stands in the ledger already."""
        self.intent, effects = observe(self.intent, observation, patience)
        return effects

    async def see(
        self, observation: Observation, patience: Patience, *also: Statement, note: str = ""
    ) -> tuple[Effect, ...]:
        """Apply `observation`. The state in memory moves at once, the commit follows in the same order.

        A `Finish` is carried out here: the intent's end and the JobResult are one transaction. `note` is added to its
        reason.
        """
        before = self.intent
        self.intent, effects = observe(before, observation, patience)
        changes = [*also]
        if isinstance(observation, Mined):
            changes.append(intents.mined(observation))
        if isinstance(observation, NotSeen | NonceTaken) and before.state is IntentState.INCLUDED:
            changes.append(intents.fell_out(self.intent.call_id))
        if self.intent.state is not before.state:
            changes.append(intents.set_state(self.intent.call_id, self.intent.state, self._book.clock.now()))
            logger.info(
                "intent %d: %s -> %s", self.intent.call_id, before.state, self.intent.state,
                extra=fields("intent_state", plugin=self.intent.plugin, call=self.intent.call_id,
                             state=self.intent.state.value, nonce=self.intent.nonce),
            )  # fmt: skip
        finish = next((effect for effect in effects if isinstance(effect, Finish)), None)
        after = self.intent
        try:
            if finish is not None:
                reason = f"{finish.reason}; {note}" if note else finish.reason
                await self._book.end(self, replace(finish, reason=reason), changes)
            elif changes:
                await self._book.store.commit(*changes)
        except StoreError:
            # Nothing of it stands in the ledger: go back, so that the next observation tries it again.
            if self.intent is after:
                self.intent = before
            raise
        return tuple(effect for effect in effects if effect is not finish)


class Book:
    """All open intents, by call id.

    An intent stays in `open` until its end stands in the ledger: what is not stored has not happened and is seen again.
    What is observed while that commit is under way changes nothing, since its state in memory is an end already.
    """

    def __init__(self, store: Store, results: Results, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.open: dict[int, Tracked] = {}
        self._results = results
        self._on_ended: list[Callable[[Intent], None]] = []

    def on_ended(self, listener: Callable[[Intent], None]) -> None:
        """Call `listener` with each intent that has ended."""
        self._on_ended.append(listener)

    def add(self, intent: Intent, call: JobCall) -> Tracked:
        """Track an intent that stands in the ledger."""
        tracked = Tracked(intent, call, self)
        if intent.state not in ENDED:
            self.open[intent.call_id] = tracked
        return tracked

    def planned(self) -> list[Tracked]:
        """The open intents that were never signed, oldest first."""
        return [t for t in self.open.values() if t.intent.state is IntentState.PLANNED and not t.intent.attempts]

    def of_chain(self, chain_id: int) -> list[Tracked]:
        """The open intents of one chain that were signed, oldest first."""
        return [t for t in self.open.values() if t.intent.chain_id == chain_id and t.intent.attempts]

    def in_flight(self, chain_id: int, wallet: str) -> int:
        """How many signed intents of a wallet have not ended."""
        return sum(1 for t in self.of_chain(chain_id) if t.intent.wallet == wallet)

    async def end(self, tracked: Tracked, finish: Finish, changes: list[Statement]) -> None:
        """The end of an intent and of its call, in one commit."""
        outcome = JobOutcome.ACTED if finish.is_success else JobOutcome.FAILED
        await self._results.finish(
            tracked.call, outcome, finish.reason[:500], *changes, transaction=finish.hash or None
        )
        self._close(tracked)

    async def give_up(self, tracked: Tracked, outcome: JobOutcome, reason: str) -> None:
        """End an intent that was never signed. Raises AlreadySigned: what was signed may take effect."""
        before = tracked.intent
        if before.attempts:
            raise AlreadySigned(before.call_id)
        change = intents.set_state(before.call_id, IntentState.DENIED, self.clock.now(), reason)
        tracked.intent = replace(before, state=IntentState.DENIED)
        try:
            await self._results.finish(tracked.call, outcome, reason[:500], change)
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
