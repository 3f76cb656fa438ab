"""What `runnerctl consumers` asks for: who hears of results, and what was given up."""

from collections.abc import Sequence
from typing import assert_never

from runnerd.clock import Clock
from runnerd.consumers.consumers import Consumers, ConsumerView
from runnerd.control import consumer_messages, messages
from runnerd.control.consumer_messages import (
    ConsumerRequest,
    ConsumerStatus,
    DeadLetter,
    DeadLetters,
    DropDeadLetters,
    ForgetConsumer,
    GetConsumers,
    GetDeadLetters,
    RetryDeadLetters,
)
from runnerd.control.messages import ControlError, Reply
from runnerd.store import audit, deliveries
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement


class ConsumerCommands:
    """Reads the ledger itself: also those are in it that are not configured any more."""

    def __init__(self, consumers: Consumers, store: Ledger, clock: Clock) -> None:
        self._consumers = consumers
        self._store = store
        self._clock = clock

    async def handle(self, request: ConsumerRequest, principal: str) -> Reply:
        """Carry out one request of `principal`. Raises ControlError, StoreError."""
        match request:
            case GetConsumers():
                return await self._list()
            case GetDeadLetters():
                if request.consumer is not None:
                    await self._check(request.consumer)
                rows = await self._store.fetch(deliveries.dead(request.consumer, request.limit))
                names = DeadLetter.__struct_fields__
                return DeadLetters(letters=[DeadLetter(**{name: row[name] for name in names}) for row in rows])
            case RetryDeadLetters():
                return await self._retry(request, principal)
            case DropDeadLetters():
                return await self._drop(request, principal)
            case ForgetConsumer():
                return await self._forget(request.consumer, principal)
            case _:
                assert_never(request)

    async def _list(self) -> Reply:
        await self._consumers.count()
        found = [to_status(one) for one in self._consumers.view()]
        for row in await self._store.fetch(deliveries.waiting()):
            if row["consumer"] not in self._consumers.names:
                name = row["consumer"]
                trouble = f"not configured any more; to forget it: runnerctl consumers forget {name}"
                found.append(
                    ConsumerStatus(
                        name=name, kind="", waiting=row["waiting"], dead=row["dead"], moved_at=row["moved_at"],
                        trouble=trouble,
                    )
                )  # fmt: skip
        return consumer_messages.Consumers(now=self._clock.now(), consumers=found)

    async def _retry(self, request: RetryDeadLetters, principal: str) -> Reply:
        name = request.consumer
        if name not in self._consumers.names:
            known = ", ".join(self._consumers.names) or "none"
            raise ControlError(f"there is no consumer {name!r}; there are: {known}")
        count = await self._change(deliveries.want(name, request.call_ids), "retry_dead_letters", principal, request)
        self._consumers.ring_for_wanted(name)
        return messages.Done(text=f"{_counted(count)} handed over once more; see runnerctl consumers dead {name}")

    async def _drop(self, request: DropDeadLetters, principal: str) -> Reply:
        await self._check(request.consumer)
        statement = deliveries.drop(request.consumer, request.call_ids)
        count = await self._change(statement, "drop_dead_letters", principal, request)
        await self._consumers.count()
        return messages.Done(text=f"{_counted(count)} forgotten")

    async def _change(
        self, statement: Statement, command: str, principal: str, request: RetryDeadLetters | DropDeadLetters
    ) -> int:
        ids: Sequence[int] = request.call_ids or ()
        record = audit.command(
            command, principal, self._clock.now(), consumer=request.consumer, calls=",".join(map(str, ids)) or "all"
        )
        changed, _ = await self._store.commit(statement, audit.append(record))
        if not changed:
            which = f"of call {', '.join(map(str, ids))} " if ids else ""
            raise ControlError(f"consumer {request.consumer} has no dead letter {which}".rstrip())
        return len(changed)

    async def _forget(self, name: str, principal: str) -> Reply:
        if name in self._consumers.names:
            raise ControlError(f"consumer {name} is configured: take its table out and restart runnerd before")
        await self._check(name)
        record = audit.command("forget_consumer", principal, self._clock.now(), consumer=name)
        await self._store.commit(*deliveries.forget(name), audit.append(record))
        return messages.Done(text=f"consumer {name} is forgotten")

    async def _check(self, name: str) -> None:
        """It is configured, or has been."""
        rows = await self._store.fetch(deliveries.waiting())
        known = dict.fromkeys([*self._consumers.names, *(row["consumer"] for row in rows)])
        if name not in known:
            raise ControlError(f"there is no consumer {name!r}; there are: {', '.join(known) or 'none'}")


def to_status(one: ConsumerView) -> ConsumerStatus:
    """As the control socket carries it."""
    return ConsumerStatus(**{name: getattr(one, name) for name in ConsumerStatus.__struct_fields__})


def _counted(count: int) -> str:
    return f"{count} dead letters are" if count > 1 else "a dead letter is"
