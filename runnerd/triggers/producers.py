"""All producers: who fires which trigger, and what becomes of one that fails.

One that is unavailable is started again, after a wait that grows; one that is broken stays down, and the others go on;
one that has no more to come has ended. All of that is in `status`.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from protocol.triggers import Trigger
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.store.errors import StoreError
from runnerd.tasks import Tasks
from runnerd.triggers.errors import ProducerBroken, ProducerError
from runnerd.triggers.producer import Producer, Retiring, Terms
from runnerd.triggers.source import source_of

logger = logging.getLogger("runnerd.producers")

RETRY_S: Final = (0.5, 60.0)
CALM_S: Final = 60.0
"""Who ran for so long has recovered: its next wait is the first again."""


class ProducerState(StrEnum):
    STOPPED = "stopped"
    RUNNING = "running"
    RETRYING = "retrying"
    BROKEN = "broken"
    ENDED = "ended"


@dataclass(slots=True)
class _Kept:
    producer: Producer
    state: ProducerState = ProducerState.STOPPED
    reason: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    """The plugins that it cannot fire for, and why: it failed when they were declared to it."""

    @property
    def all_reasons(self) -> str:
        """What is wrong with it now, in words; empty if nothing is."""
        refused = [f"cannot fire for {plugin}: {why}" for plugin, why in sorted(self.refused.items())]
        return "; ".join(filter(None, [self.reason or self.producer.trouble, *refused]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerView:
    """One producer, as `status` shows it."""

    name: str
    state: ProducerState
    reason: str
    progress: str


class Producers:
    """The producers by name. Third parties' come in by the same door: `add`, before `start`."""

    def __init__(self, producers: Sequence[Producer] = ()) -> None:
        self._kept: dict[str, _Kept] = {}
        self._declared: dict[str, Sequence[Trigger]] = {}
        self._tasks = Tasks()
        for producer in producers:
            self.add(producer)

    def add(self, producer: Producer) -> None:
        """Raises ValueError when there is one of this name."""
        if producer.name in self._kept:
            raise ValueError(f"there is a producer {producer.name!r} already")
        self._kept[producer.name] = _Kept(producer)

    def start(self) -> None:
        """Run them all, each in a task of its own."""
        for kept in self._kept.values():
            self._tasks.spawn(self._run(kept), f"producer:{kept.producer.name}")

    async def close(self) -> None:
        """End them: nothing fires any more."""
        await self._tasks.cancel()

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        """Each trigger to the producer that serves it. One that fails does not keep the others."""
        self._declared[plugin] = triggers
        unserved = [trigger for trigger in triggers if not any(self._who_serves(trigger))]
        for trigger in unserved:
            logger.error(
                "nothing fires %s of %s", source_of(trigger), plugin,
                extra=fields("trigger_unserved", plugin=plugin, trigger=source_of(trigger)),
            )  # fmt: skip
        for kept in self._kept.values():
            if self._declared.get(plugin) is not triggers:
                return  # declared anew, or forgotten, while one of them asked the ledger
            its = [trigger for trigger in triggers if kept.producer.serves(trigger)]
            try:
                await kept.producer.declare(plugin, its, terms)
            except Exception as error:  # also a defect of ours, or of a third party: the others are declared to
                is_expected = isinstance(error, ProducerError | StoreError)
                kept.refused[plugin] = explain(error)
                logger.error(
                    "%s cannot fire for %s: %s", kept.producer.name, plugin, kept.refused[plugin],
                    exc_info=None if is_expected else error,
                    extra=fields("trigger_refused", plugin=plugin, producer=kept.producer.name),
                )  # fmt: skip
            else:
                kept.refused.pop(plugin, None)

    def forget(self, plugin: str) -> None:
        """Fire nothing for `plugin` any more."""
        self._declared.pop(plugin, None)
        for kept in self._kept.values():
            kept.refused.pop(plugin, None)
            kept.producer.forget(plugin)

    def retire(self, plugin: str) -> None:
        """The operator took `plugin` away or switched it off: as `forget`, and what it misses is no gap."""
        self.forget(plugin)
        for kept in self._kept.values():
            if isinstance(kept.producer, Retiring):
                kept.producer.retire(plugin)

    def next_due(self, plugin: str) -> datetime | None:
        """When `plugin` is called next, as far as that is known."""
        moments = [kept.producer.next_due(plugin) for kept in self._kept.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def view(self) -> list[ProducerView]:
        """For `status`."""
        return [
            ProducerView(
                name=kept.producer.name,
                state=kept.state,
                reason=kept.all_reasons,
                progress=kept.producer.progress(),
            )
            for kept in self._kept.values()
        ]

    def problems(self) -> list[str]:
        """What an operator should know."""
        return [
            f"producer {view.name} {view.state}: {view.reason}" if view.state is not ProducerState.RUNNING
            else f"producer {view.name}: {view.reason}"
            for view in self.view()
            if view.reason and view.state is not ProducerState.ENDED
        ]  # fmt: skip

    def _who_serves(self, trigger: Trigger) -> list[Producer]:
        return [kept.producer for kept in self._kept.values() if kept.producer.serves(trigger)]

    async def _run(self, kept: _Kept) -> None:
        """Until it has ended, is broken, or all are closed."""
        loop = asyncio.get_running_loop()
        delay_s, longest_s = RETRY_S
        while True:
            kept.state, kept.reason = ProducerState.RUNNING, ""
            began = loop.time()
            try:
                await kept.producer.run()
            except ProducerBroken as error:
                kept.state, kept.reason = ProducerState.BROKEN, str(error)
                logger.error(
                    "producer %s is broken: %s", kept.producer.name, error,
                    extra=fields("producer_broken", producer=kept.producer.name),
                )  # fmt: skip
                return
            except Exception as error:  # also a defect of ours, or of a third party: the others go on
                is_expected = isinstance(error, ProducerError)
                reason = explain(error)
                delay_s = RETRY_S[0] if loop.time() - began >= CALM_S else delay_s
                kept.state, kept.reason = ProducerState.RETRYING, reason
                logger.error(
                    "producer %s is started again in %g s: %s", kept.producer.name, delay_s, reason,
                    exc_info=None if is_expected else error,
                    extra=fields("producer_retried", producer=kept.producer.name, delay_s=delay_s),
                )  # fmt: skip
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, longest_s)
            else:
                kept.state = ProducerState.ENDED
                logger.info(
                    "producer %s has ended", kept.producer.name,
                    extra=fields("producer_ended", producer=kept.producer.name),
                )  # fmt: skip
                return
