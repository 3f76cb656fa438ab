"""What `runnerctl adopt`, `cancel` and `fees` ask for: strangers, intents under way, and the knobs of a chain."""

import asyncio
from collections.abc import Mapping
from typing import Protocol, assert_never

from runnerd.clock import Clock
from runnerd.control import chain_messages, messages
from runnerd.control.messages import ControlError, Reply
from runnerd.executor.auditor import Auditor
from runnerd.executor.executor import VaultDesk
from runnerd.executor.follow import Follower
from runnerd.executor.lane import Lane
from runnerd.executor.tracked import Book, Tracked
from runnerd.executor.wanted import ENDED, IntentState
from runnerd.knobs import Knob
from runnerd.network import Network
from runnerd.store import audit, calls, knobs
from runnerd.store.ledger import Ledger

MAX_LISTED = 20
"""Hashes that a refusal names."""


class Chain(Protocol):
    """What is needed of a `ChainDesk`. Auditor and follower are there once the chain has answered."""

    network: Network
    lanes: dict[str, Lane]
    auditor: Auditor | None
    follower: Follower | None

    @property
    def problem(self) -> str | None:
        """What keeps the chain from working, in words."""


class ChainCommands:
    """`chains` and `vaults` by name; a vault is there once it is open."""

    def __init__(
        self,
        chains: Mapping[str, Chain],
        vaults: Mapping[str, VaultDesk],
        book: Book,
        store: Ledger,
        clock: Clock,
    ) -> None:
        self._chains = chains
        self._vaults = vaults
        self._book = book
        self._store = store
        self._clock = clock
        self._turning = asyncio.Lock()  # knobs are judged together: two commands at once might contradict each other

    async def handle(self, request: chain_messages.ChainRequest, principal: str) -> Reply:
        """Carry out one request of `principal`. Raises ControlError, StoreError."""
        match request:
            case chain_messages.Adopt():
                return await self._adopt(request.hash.lower(), principal)
            case chain_messages.Cancel():
                return await self._cancel(request.call_id, principal)
            case chain_messages.GetFees():
                return self._fees(request.chain)
            case chain_messages.TurnFees():
                return await self._turn(request, principal)
            case _:
                assert_never(request)

    async def _adopt(self, tx_hash: str, principal: str) -> Reply:
        record = audit.command("adopt", principal, self._clock.now(), hash=tx_hash)
        told = []
        for chain in self._chains.values():
            # Of a chain without EIP-155 the same transaction may stand on another one as well.
            text = await chain.auditor.adopt(tx_hash, principal, record) if chain.auditor is not None else None
            if text is not None:
                told.append(text)
        if told:
            return messages.Done(text="; ".join(told))
        waiting = [f"{each} on {name}" for name, chain in self._chains.items() for each in _unadopted(chain)]
        listed = ", ".join(waiting[-MAX_LISTED:]) or "none"
        silent = [name for name, chain in self._chains.items() if chain.auditor is None]
        unasked = f"; chain {', '.join(silent)} has not answered yet" if silent else ""
        raise ControlError(f"{tx_hash} is not known as foreign; to adopt: {listed}{unasked}")

    # --- cancel ------------------------------------------------------------------------------------------------------

    async def _cancel(self, call_id: int, principal: str) -> Reply:
        tracked = self._book.open.get(call_id)
        if tracked is None:
            raise ControlError(await self._absence(call_id))
        reason = tracked.withdrawn or f"cancelled by {principal}"
        text = self._withdraw(tracked, reason)
        # In force at once, and on record before the operator is told so.
        record = audit.command("cancel", principal, self._clock.now(), call=call_id, state=tracked.intent.state.value)
        await self._store.commit(audit.append(record))
        return messages.Done(text=text)

    def _withdraw(self, tracked: Tracked, reason: str) -> str:
        """Begin it; what was begun. Raises ControlError when it is too late, or somebody else's to end."""
        intent = tracked.intent
        what, state = f"call {intent.call_id}", intent.state
        if state in ENDED:
            raise ControlError(f"{what} is just ending: its intent is {state}")
        if state is IntentState.PLANNED:
            return self._withdraw_planned(tracked, reason)
        if state is IntentState.INCLUDED:
            where = f"in block {tracked.seen.block}" if tracked.seen is not None else "in a block"
            raise ControlError(f"{what} is included {where} already: it cannot be cancelled any more")
        if state is IntentState.UNRESOLVED:
            raise ControlError(
                f"{what} is unresolved: its nonce {intent.nonce} is used, and not by a transaction of it that we can "
                "see. Nothing can take its place there; to keep it from being signed anew, pause its vault"
            )
        if intent.cancellation is not None:
            raise ControlError(
                f"{what} is being cancelled already, by a no-op at nonce {intent.nonce}: {intent.cancellation.reason}"
            )
        return self._withdraw_signed(tracked, reason)

    def _withdraw_planned(self, tracked: Tracked, reason: str) -> str:
        intent = tracked.intent
        what, desk = f"call {intent.call_id}", self._vaults.get(intent.vault)
        if desk is None:
            tracked.withdrawn = reason
            return (
                f"{what} will end without being signed when vault {intent.vault} opens, which has not happened yet; "
                "if runnerd is restarted before, cancel it again"
            )
        shown = desk.proposals.shown() if desk.proposals is not None else []
        if any(each.intent.call_id == intent.call_id and not each.is_complete for each in shown):
            raise ControlError(
                f"{what} waits for signatures of the Safe's owners; to end it: runnerctl safe reject {intent.call_id}"
            )
        if desk.lane.problem is not None:
            raise ControlError(f"wallet {intent.wallet} signs nothing any more, {what} included: {desk.lane.problem}")
        desk.lane.withdraw(tracked, reason)
        return f"{what} is withdrawn before it is signed; see runnerctl runs"

    def _withdraw_signed(self, tracked: Tracked, reason: str) -> str:
        intent = tracked.intent
        what = f"call {intent.call_id}"
        name, chain = next(
            ((name, chain) for name, chain in self._chains.items() if chain.network.config.id == intent.chain_id),
            (None, None),
        )
        if chain is None:
            raise ControlError(f"{what} cannot be cancelled: chain {intent.chain_id} is not configured any more")
        if chain.follower is None:
            why = chain.problem or "it has not answered yet"
            raise ControlError(f"{what} cannot be cancelled now: nothing is sent to chain {name}: {why}")
        if intent.wallet not in chain.lanes:
            raise ControlError(f"{what} is only watched: wallet {intent.wallet} is no operator here any more")
        chain.follower.withdraw(tracked, reason)
        return f"{what} is being cancelled by a no-op at nonce {intent.nonce}; see runnerctl tx"

    async def _absence(self, call_id: int) -> str:
        rows = await self._store.fetch(calls.fate(call_id))
        if not rows:
            return f"there is no call {call_id}; see runnerctl runs"
        (row,) = rows
        if row["outcome"] is not None:
            return f"call {call_id} has ended already, as {row['outcome']}: {row['reason']}"
        if row["state"] == "queued":
            return (
                f"call {call_id} is not decided yet, and nothing of it is on its way to the chain; to keep "
                f"{row['plugin']} from acting: runnerctl pause {row['plugin']}"
            )
        return f"call {call_id} is just being recorded; ask again"

    # --- fees --------------------------------------------------------------------------------------------------------

    def _fees(self, name: str) -> Reply:
        chain = self._chain(name)
        stand = chain.network.knobs
        found = []
        for knob in Knob:
            turned = stand.turned.get(knob)
            found.append(
                chain_messages.KnobStatus(
                    name=knob.value,
                    value=stand.value(knob),
                    configured=stand.configured(knob),
                    turned_by=turned.by if turned is not None else None,
                    turned_at=turned.at if turned is not None else None,
                )
            )
        return chain_messages.Fees(chain=name, knobs=found)

    async def _turn(self, request: chain_messages.TurnFees, principal: str) -> Reply:
        chain, now = self._chain(request.chain), self._clock.now()
        asked = {knob: getattr(request, knob.value) for knob in Knob}
        wanted: dict[Knob, int] = {knob: value for knob, value in asked.items() if value is not None}
        if request.is_reset == bool(wanted):
            raise ControlError(f"either turn at least one of {', '.join(Knob)}, or reset all of them")
        async with self._turning:
            stand = chain.network.knobs
            problem = stand.find_problem(wanted)
            if problem is not None:
                raise ControlError(problem)
            record = audit.append(
                audit.command(
                    "fees", principal, now, chain=request.chain, is_reset=request.is_reset,
                    **{knob.value: value for knob, value in wanted.items()},
                )
            )  # fmt: skip
            changes = [knobs.turn(request.chain, knob.value, value, principal, now) for knob, value in wanted.items()]
            await self._store.commit(*(changes or [knobs.reset(request.chain)]), record)
            if wanted:
                stand.turn(wanted, principal, now)
            else:
                stand.reset()
        return self._fees(request.chain)

    def _chain(self, name: str) -> Chain:
        chain = self._chains.get(name)
        if chain is None:
            raise ControlError(f"there is no chain {name!r}; there are: {', '.join(sorted(self._chains)) or 'none'}")
        return chain


def _unadopted(chain: Chain) -> list[str]:
    return chain.auditor.unadopted if chain.auditor is not None else []
