"""The door of the executor: a Decision comes in, is judged, and is committed together with what follows from it.

Owns the order "store, then act". Signing is `lane`, watching is `follow`, what was spent is `usage`.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable

from protocol.actions import Act, Noop
from protocol.codec import encode_outcome
from runnerd.chain.vault import VaultAdapter
from runnerd.clock import Clock
from runnerd.crash_points import reached
from runnerd.executor.decided import Decided, to_store
from runnerd.executor.draft import Draft, Grant, draft
from runnerd.executor.dry_run import Verdict, rehearse
from runnerd.executor.lane import Lane
from runnerd.executor.policy import Circumstances, Denied
from runnerd.executor.proposals import ProposalDesk
from runnerd.executor.review import find_objection
from runnerd.executor.tracked import Book, Tracked
from runnerd.executor.usage import Usage
from runnerd.executor.wanted import WITHOUT_EFFECT, Intent, IntentState
from runnerd.log import fields
from runnerd.pauses import Pauses
from runnerd.routing.rehearsed import Rehearsed
from runnerd.routing.results import Results
from runnerd.store import audit, calls, decisions, intents
from runnerd.store.calls import JobCall, JobOutcome, JobResult
from runnerd.store.errors import StoreError, StoreUnavailable
from runnerd.store.store import Store
from runnerd.tasks import Tasks
from runnerd.vaults.caps_mirror import CapsMirror
from runnerd.vaults.catalogue import Catalogue

logger = logging.getLogger("runnerd.executor")

MAX_REASON = 500
RETRY_S = 0.5


class VaultDesk:
    """One vault in operation: its catalogue, its adapter, its wallet's lane, and the mirror of its own caps if any."""

    def __init__(
        self,
        name: str,
        catalogue: Catalogue,
        adapter: VaultAdapter,
        lane: Lane,
        proposals: ProposalDesk | None = None,
        mirror: CapsMirror | None = None,
    ) -> None:
        self.name = name
        self.catalogue = catalogue
        self.adapter = adapter
        self.lane = lane
        self.mirror = mirror
        self.proposals = proposals
        self.door: Lane | ProposalDesk = proposals or lane
        """Where planned intents go: with proposals they wait for signatures before the lane takes them."""

    @property
    def waiting(self) -> int:
        """Planned intents of this wallet that have no nonce yet, and those of this vault that wait for signatures."""
        return self.lane.waiting + (self.proposals.waiting if self.proposals is not None else 0)


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
        usage: Usage,
        clock: Clock,
    ) -> None:
        self._vaults = vaults
        self._ledger_id = ledger_id
        self._store = store
        self._results = results
        self._pauses = pauses
        self._book = book
        self._usage = usage
        self._clock = clock
        self._tasks = Tasks()
        self._deciding: set[int] = set()
        """Calls whose Actions are being judged and stored."""
        book.on_ended(self._on_ended)

    async def accept(self, decided: Decided) -> None:
        """Judge and store a Decision; give an approved one to its wallet, and its JobResult comes later.

        The work is the executor's own and outlives its caller: a plugin that is reloaded ends its host in the middle of
        a commit, which takes effect all the same. Raises StoreError; then nothing of the Decision stands.
        """
        outcome, call = decided.outcome, decided.call
        if call.is_dry_run:
            await self._rehearse(decided)
            return
        if call.id in self._deciding or call.id in self._book.open:
            logger.error(
                "call %d was decided before; its second Decision counts for nothing", call.id,
                extra=fields("decided_twice", plugin=call.plugin, call=call.id),
            )  # fmt: skip
            return
        if isinstance(outcome, Noop):
            await self._end_noop(decided, outcome)
            return
        self._deciding.add(call.id)
        work = self._tasks.spawn(self._settle(decided, outcome), f"decision:{call.id}")
        work.add_done_callback(lambda _: self._deciding.discard(call.id))
        try:
            error = await asyncio.shield(work)
        except asyncio.CancelledError:
            self._tasks.spawn(self._end_orphan(work, call), f"orphan:{call.id}")
            raise
        if error is not None:
            raise error

    async def _end_noop(self, decided: Decided, noop: Noop) -> None:
        """What nearly all Decisions are; their commit outlives its caller by itself, and needs no task of ours."""
        statements, recorded = to_store(decided)
        result = self._results.finish_soon(decided.call, JobOutcome.NOOP, noop.reason, *statements, records=[recorded])
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        result.add_done_callback(lambda _: None if told.done() else told.set_result(None))
        try:
            await told  # not the result, which would be cancelled with us; `shield` takes 20 µs
            result.result()
        except asyncio.CancelledError:
            self._tasks.spawn(self._end_orphan(_error_of(result), decided.call), f"orphan:{decided.call.id}")
            raise

    async def close(self) -> None:
        """End what is under way. What is committed goes on with the next start."""
        await self._tasks.cancel()

    async def _settle(self, decided: Decided, act: Act) -> Exception | None:
        """`_accept`, with its error as a value: there may be nobody any more to raise it to."""
        try:
            await self._accept(decided, act)
        except Exception as error:
            return error
        return None

    async def _end_orphan(self, work: Awaitable[Exception | None], call: JobCall) -> None:
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

    async def _accept(self, decided: Decided, act: Act) -> None:
        drafted = self._draft(decided, act)
        if isinstance(drafted, Denied):
            await self._deny(decided, drafted.reason)
        else:
            await self._plan(decided, drafted)

    def _draft(self, decided: Decided, act: Act) -> Draft | Denied:
        vault, call = self._vaults[decided.vault], decided.call
        return draft(decided, act, self._grant(vault, call), self._pauses, self._intent_id(call.id), self._clock.now())

    async def _rehearse(self, decided: Decided) -> None:
        """A dry run: what `_accept` would come to, and nothing of it is counted, stored or signed."""
        writes, outcome = tuple(write.key for write in decided.state_writes), decided.outcome
        found = Rehearsed(decision=encode_outcome(outcome), state_writes=writes)
        if isinstance(outcome, Noop):
            self._results.tell(decided.call, JobOutcome.NOOP, outcome.reason, found)
            return
        drafted = self._draft(decided, outcome)
        if isinstance(drafted, Denied):
            verdict = Verdict(JobOutcome.DENIED, drafted.reason, found)
        else:
            vault = self._vaults[decided.vault]
            needs_owners = vault.proposals is not None
            verdict = await rehearse(
                drafted, vault.lane, self._usage, self._clock.now(), found, needs_owners=needs_owners
            )
        self._results.tell(decided.call, verdict.outcome, verdict.reason[:MAX_REASON], verdict.rehearsed)

    async def _deny(self, decided: Decided, reason: str) -> None:
        statements, recorded = to_store(decided)
        await self._results.finish(
            decided.call, JobOutcome.DENIED, reason[:MAX_REASON], *statements, records=[recorded]
        )

    async def resume(self, vaults: frozenset[str]) -> None:
        """Take up the planned intents that a former process left of these vaults. `usage` has what they count already.

        Only what today's configuration still grants is given to a lane, the rest is denied. Signed ones are `follow`'s.
        """
        served = vaults & self._vaults.keys()
        planned = [tracked for tracked in self._book.planned() if tracked.intent.vault in served]
        rows = await self._store.fetch(decisions.outcomes_of([tracked.intent.call_id for tracked in planned]))
        decided = {row["call_id"]: row["outcome"] for row in rows}
        for tracked in planned:
            await self._judge_again(tracked, decided.get(tracked.intent.call_id))
        # Only now: until here the ledger may fail us, and then all of this is done again.
        for tracked in planned:
            if tracked.intent.state is IntentState.PLANNED:
                self._vaults[tracked.intent.vault].door.put(tracked)
        reached("resume.done")

    async def replan(self, tracked: Tracked) -> None:
        """Nothing that was signed of it can take effect any more: as after a restart, if today's configuration still
        grants it. Never raises: nobody else would give it to a lane."""
        vault, call_id = tracked.intent.vault, tracked.intent.call_id
        while True:
            try:
                if vault not in self._vaults:
                    await self._book.give_up(tracked, JobOutcome.FAILED, f"not signed: vault {vault} is not served")
                    return
                rows = await self._store.fetch(decisions.outcomes_of([call_id]))
                await self._judge_again(tracked, rows[0]["outcome"] if rows else None)
                break
            except StoreError as error:
                logger.warning(
                    "call %d cannot be judged again now: %s", call_id, error,
                    extra=fields("replan_waits", call=call_id, plugin=tracked.intent.plugin),
                )  # fmt: skip
            await asyncio.sleep(RETRY_S)
        if tracked.intent.state is IntentState.PLANNED:
            self._vaults[vault].door.put(tracked)

    async def _judge_again(self, tracked: Tracked, decision: str | None) -> None:
        """End a planned intent that is not granted any more."""
        call_id, vault = tracked.intent.call_id, self._vaults[tracked.intent.vault]
        objection = find_objection(tracked.intent, decision, self._intent_id(call_id), self._grant(vault, tracked.call))
        if objection is not None:
            await self._book.give_up(tracked, JobOutcome.DENIED, f"not granted any more: {objection}")

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

    async def _plan(self, decided: Decided, drafted: Draft) -> None:
        intent, call_id, now = drafted.intent, decided.call.id, self._clock.now()
        vault = self._vaults[decided.vault]
        counted = self._usage.take(intent, drafted.uses)  # no await since it was judged: two at once cannot both fit
        # Simulating only reads, so it need not wait for the commit. Signing does: it begins with `put`.
        rehearsing = asyncio.get_running_loop().create_task(vault.door.rehearse(intent), name=f"rehearse:{call_id}")
        try:
            with_decision, recorded = to_store(decided)
            trail = audit.append(recorded, audit.planned(intent, now))
            reached("decision.storing")
            await self._store.commit(
                *with_decision, trail, calls.decided(call_id), intents.plan(intent, self._clock.now()), *counted
            )
            reached("decision.stored")
            # From here on nothing may raise: the intent stands in the ledger, and needs its lane.
            rehearsal = await rehearsing
        except Exception:
            self._usage.ended(intent, is_success=False)
            raise
        finally:
            rehearsing.cancel()
        tracked = self._book.add(intent, decided.call)
        tracked.rehearsal = rehearsal
        vault.door.put(tracked)

    def _intent_id(self, call_id: int) -> bytes:
        """32 bytes, unique to this ledger and call: the vault refuses a second execution under the same id."""
        return hashlib.sha256(self._ledger_id + call_id.to_bytes(8, "big")).digest()

    def ids_on_the_way(self, vault: str) -> dict[int, bytes]:
        """Intent ids, by call, of a vault's signed intents that send value and have not ended."""
        signed = (call_id for call_id in self._usage.on_the_way(vault) if call_id in self._book.open)
        return {call_id: self._intent_id(call_id) for call_id in signed if self._book.open[call_id].intent.attempts}

    def _circumstances(self, vault: VaultDesk, call: JobCall) -> Circumstances:
        """Of this moment, beside what the call itself has been counted with."""
        caps = vault.mirror.of(vault.name, self._clock.now()) if vault.mirror is not None else None
        counted = caps.executed | {call.id} if caps is not None else {call.id}
        return Circumstances(
            plugin=call.plugin,
            budget=self._usage.budget_of(call.plugin),
            used=self._usage.beside(call.id),
            caps=caps,
            on_the_way_wei=sum(
                wei for other, wei in self._usage.on_the_way(vault.name).items() if other not in counted
            ),
        )

    def _grant(self, vault: VaultDesk, call: JobCall) -> Grant:
        return Grant(
            vault=vault.name,
            chain_id=vault.lane.network.config.id,
            wallet=vault.lane.signer.address,
            catalogue=vault.catalogue,
            adapter=vault.adapter,
            circumstances=self._circumstances(vault, call),
        )

    def _on_ended(self, intent: Intent) -> None:
        self._usage.ended(intent, is_success=intent.state not in WITHOUT_EFFECT)


async def _error_of(result: "asyncio.Future[JobResult]") -> Exception | None:
    try:
        await result
    except Exception as error:
        return error
    return None
