"""Answers to calls that a chain made: each a JobCall of its own that is decided by the supervisor, not by a plugin.

The answer's call, its Decision and its intent are one commit, under an identity that is derived from the call that is
answered: after a crash it stands or it does not, and a second delivery finds it. From there on the executor treats it
as every other intent: catalogue, limits, budgets and pauses hold, there is one lane to the key, and its intent id is
its own. Used by `consumers.submit`.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Protocol

import msgspec

from protocol.actions import Act, Action
from protocol.messages import TriggerKind
from runnerd.clock import Clock
from runnerd.config.model import Place
from runnerd.config.plugins import PluginConfig
from runnerd.consumers.answer import find_objection
from runnerd.consumers.consumer import ConsumerNotReady, ConsumerRefused
from runnerd.executor.decided import Decided, terms_of
from runnerd.executor.executor import VaultDesk
from runnerd.log import fields
from runnerd.pauses import Pauses
from runnerd.runner.drain import Drain
from runnerd.services.metrics import Metrics
from runnerd.store import answers, calls, numbers
from runnerd.store.calls import RETRACTED, JobCall
from runnerd.store.errors import StoreUnavailable
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement

logger = logging.getLogger("runnerd.consumers")

NOBODY: Final = 0
"""The generation of a Decision that no worker made."""


class Host(Protocol):
    """What is needed of a `PluginHost`."""

    @property
    def config(self) -> PluginConfig:
        """As it was last read."""


class Executor(Protocol):
    """What is needed of the executor."""

    async def accept(self, decided: Decided) -> None:
        """Judge and store a Decision, and whatever follows from it. Raises StoreError."""


class Answers:
    """`vaults` are there once they are open; `configs` are those of all."""

    def __init__(
        self,
        executor: Executor,
        vaults: Mapping[str, VaultDesk],
        configs: Mapping[str, Place],
        hosts: Mapping[str, Host],
        pauses: Pauses,
        store: Ledger,
        metrics: Metrics,
        clock: Clock,
        drain: Drain,
    ) -> None:
        self._executor = executor
        self._vaults = vaults
        self._configs = configs
        self._hosts = hosts
        self._pauses = pauses
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._drain = drain

    async def answer(self, consumer: str, call: JobCall, action: Action) -> None:
        """Plan `action` as the one answer to `call`; nothing, if it has one.

        Raises ConsumerRefused when there must be none, ConsumerNotReady while its vault is not open, or paused.
        """
        host = self._hosts.get(call.plugin)
        if host is None:
            raise ConsumerRefused(f"call {call.id}: plugin {call.plugin} is not configured any more")
        place, what = host.config.place, f"{host.config.place_kind} {host.config.place}"
        desk = self._vaults.get(place)
        if desk is None:
            raise ConsumerNotReady(f"{what} is not open")
        if self._drain.is_asked:
            raise ConsumerNotReady("runnerd is stopping, and begins no more transactions")
        entry = desk.catalogue.actions.get(action.name)
        if entry is None:
            raise ConsumerRefused(f"call {call.id}: {what} grants no action {action.name}")
        objection = find_objection(call, self._configs[place].chain, entry.contract)
        if objection is not None:
            raise ConsumerRefused(f"call {call.id}: {objection}")
        try:
            await self._answer(consumer, call, action, host.config)
        except StoreUnavailable as error:
            raise ConsumerNotReady(f"the ledger is away: {error}") from error

    async def _answer(self, consumer: str, call: JobCall, action: Action, config: PluginConfig) -> None:
        identity = f"answer {call.id}"
        if await self._store.fetch(calls.find(call.plugin, identity)):
            return
        if await self._store.fetch(calls.find(call.plugin, RETRACTED + call.identity)):
            logger.warning(
                "call %d of %s has no answer: a reorg took back what asked", call.id, call.plugin,
                extra=fields("answer_skipped", consumer=consumer, plugin=call.plugin, call=call.id),
            )  # fmt: skip
            return
        paused = self._pauses.objection(call.plugin, config.place, [action.name])
        if paused is not None:
            raise ConsumerNotReady(paused)
        ((row,),) = await self._store.commit(numbers.next_call_id())
        now = self._clock.now()
        answer = JobCall(
            id=row["id"],
            plugin=call.plugin,
            trigger=TriggerKind.ANSWER,
            identity=identity,
            principal=f"consumer:{consumer}",
            topic=None,
            payload=msgspec.json.encode({"answers": call.id, "origin": call.identity}).decode(),
            due_at=now,
            fired_at=now,
            deadline_at=now + timedelta(seconds=config.call_deadline_s),
            attempts=0,
            source=f"answer {consumer}",
            block=call.block,
        )
        await self._executor.accept(_decided(answer, config, action, answers.insert_as(answer)))
        self._metrics.called(answer.plugin, answer.trigger.value)
        logger.info(
            "call %d of %s is answered by call %d", call.id, call.plugin, answer.id,
            extra=fields("answer_planned", consumer=consumer, plugin=call.plugin, call=call.id, answer=answer.id),
        )  # fmt: skip


def _decided(answer: JobCall, config: PluginConfig, action: Action, born_with: Statement) -> Decided:
    return Decided(
        call=answer,
        vault=config.place,
        generation=NOBODY,
        digest="",
        attempt=1,
        context=answer.payload,
        outcome=Act([action]),
        state_writes=(),
        decided_at=answer.fired_at,
        decide_ms=0.0,
        terms=terms_of(config),
        born_with=(born_with,),
    )
