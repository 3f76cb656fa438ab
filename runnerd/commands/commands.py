"""What each command of the control socket does. Reads the parts, changes them through their own methods."""

import asyncio
import uuid
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import assert_never

from msgspec import structs

from protocol.messages import TriggerKind
from runnerd.clock import Clock
from runnerd.commands.chains import ChainCommands
from runnerd.commands.consumers import ConsumerCommands
from runnerd.commands.dry_runs import DryRuns
from runnerd.commands.keys import KeyCommands
from runnerd.commands.patience import AWAY, Patience, told_when_late
from runnerd.commands.pauses import PauseCommands
from runnerd.commands.records import RecordCommands
from runnerd.commands.safes import SafeCommands
from runnerd.control import (
    chain_messages,
    consumer_messages,
    key_messages,
    messages,
    outbox_messages,
    record_messages,
    safe_messages,
    service_messages,
    status_messages,
)
from runnerd.control.messages import ControlError, Reply, Request
from runnerd.pauses import Pauses
from runnerd.plugins import Plugins
from runnerd.routing import repetition
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.runner.drain import Drain
from runnerd.store import audit, calls
from runnerd.store.calls import NewCall
from runnerd.store.errors import StoreUnavailable
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.triggers.outbox import OutboxProducer
from runnerd.views.status import StatusReader


class Commands:
    """`control.server.Handle` is its `handle`. `vaults` are the names of their actions, by vault or keeper."""

    def __init__(
        self,
        router: Router,
        plugins: Plugins,
        results: Results,
        pauses: Pauses,
        store: Store,
        status: StatusReader,
        vaults: Mapping[str, Collection[str]],
        safes: SafeCommands,
        chain_commands: ChainCommands,
        key_commands: KeyCommands,
        consumer_commands: ConsumerCommands,
        clock: Clock,
        outbox: OutboxProducer | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._router = router
        self._plugins = plugins
        self._results = results
        self._store = store
        self._status = status
        self._records = RecordCommands(store, self._check_plugin)
        self._pause_commands = PauseCommands(pauses, store, vaults, self._check_plugin, clock)
        self._safes = safes
        self._chain_commands = chain_commands
        self._key_commands = key_commands
        self._consumer_commands = consumer_commands
        self._clock = clock
        self._outbox = outbox
        self._patience = Patience()
        self._dry_runs = DryRuns(router, results, store, clock, self._patience)
        self._drain = drain or Drain(0)

    async def close(self) -> None:
        """Nobody asks any more."""
        await self._patience.close()

    async def handle(self, request: Request, principal: str) -> Reply:
        """Carry out one request of `principal`. Raises ControlError, StoreError."""
        late = told_when_late(request)
        try:
            work = self._carry_out(request, principal)
            return await (work if late is None else self._patience.wait(work, late))
        except StoreUnavailable as error:  # of a query: commits wait
            raise ControlError(f"{AWAY}: see runnerctl status") from error

    async def _carry_out(self, request: Request, principal: str) -> Reply:  # one for each command
        match request:
            case status_messages.GetStatus():
                return await self._status.read()
            case messages.Fire():
                return await self._fire(request, principal)
            case record_messages.GetRuns() | record_messages.GetTransactions() | record_messages.GetHistory():
                return await self._records.handle(request)
            case messages.Pause() | messages.Reduce() | messages.Resume():
                return await self._pause_commands.handle(request, principal)
            case messages.Restart():
                self._check_plugin(request.plugin)
                self._plugins.restart(request.plugin)
                await self._store.commit(self._trail("restart", principal, plugin=request.plugin))
                return messages.Done(text=f"{request.plugin} restarts")
            case service_messages.Drain():
                return await self._begin_drain(request, principal)
            case safe_messages.GetProposals() | safe_messages.SignProposal() | safe_messages.RejectProposal():
                return await self._safes.handle(request, principal)
            case (
                chain_messages.Adopt() | chain_messages.Cancel() | chain_messages.GetFees() | chain_messages.TurnFees()
            ):
                return await self._chain_commands.handle(request, principal)
            case outbox_messages.GetOutbox():
                return await self._followers()
            case key_messages.CreateKey() | key_messages.GetKeys() | key_messages.RevokeKey():
                return await self._key_commands.handle(request, principal)
            case (
                consumer_messages.GetConsumers()
                | consumer_messages.GetDeadLetters()
                | consumer_messages.RetryDeadLetters()
                | consumer_messages.DropDeadLetters()
                | consumer_messages.ForgetConsumer()
            ):
                return await self._consumer_commands.handle(request, principal)
            case _:
                assert_never(request)

    async def _begin_drain(self, request: service_messages.Drain, principal: str) -> Reply:
        await self._store.commit(self._trail("drain", principal, hurry="yes" if request.is_hurried else "no"))
        if request.is_hurried:
            self._drain.hurry()
            return messages.Done(text="runnerd stops now")
        self._drain.ask(request.transactions_s)
        return messages.Done(text="runnerd drains: it takes nothing new, and ends when what runs has ended")

    async def _followers(self) -> Reply:
        views = await self._outbox.view() if self._outbox is not None else []
        return outbox_messages.Outbox(
            now=self._clock.now(),
            trouble=self._outbox.trouble if self._outbox is not None else None,
            followers=[
                outbox_messages.FollowerStatus(
                    plugin=view.plugin,
                    topic=view.topic,
                    position=view.position,
                    events=view.events,
                    since=view.since,
                    waits_for=view.waits_for,
                )
                for view in views
                if view.plugin in self._router.hosts  # the position of one that was removed keeps nobody
            ],
        )

    async def _fire(self, request: messages.Fire, principal: str) -> Reply:
        if self._router.is_draining:
            raise ControlError("runnerd is stopping and takes no more calls")
        if request.is_dry_run:
            self._check_job(request.plugin, request.job)
            return await self._dry_runs.fire(request, principal)
        host, now = self._router.hosts.get(request.plugin), self._clock.now()
        identity = f"manual {request.key or uuid.uuid4().hex}"
        new_call = self._router.addressed(
            NewCall(
                plugin=request.plugin,
                trigger=TriggerKind.MANUAL,
                identity=identity,
                principal=principal,
                due_at=now,
                fired_at=now,
                deadline_at=now + timedelta(seconds=host.config.call_deadline_s if host is not None else 0),
                payload=request.payload,
                source="manual",
                job=request.job,
            )
        )
        if new_call.identity == identity:
            self._check_job(request.plugin, request.job)
        record = self._trail(
            "fire", principal, plugin=request.plugin, identity=identity, payload_sha256=audit.digest(request.payload)
        )
        fired = await self._submit_and_wait(new_call, request.wait_s, record, is_repeatable=request.key is not None)
        if new_call.identity == identity:
            return fired
        return structs.replace(fired, fell_back_to=f"{new_call.plugin}/{new_call.job}")

    async def _submit_and_wait(
        self, new_call: NewCall, wait_s: float, record: Statement, *, is_repeatable: bool
    ) -> messages.Fired:
        again = "fire again with the same --key" if is_repeatable else "fired again without a --key it is a second one"
        late = f"the call may have been made, or is when it is back: {again}"
        accepted = await self._patience.wait(self._router.submit([new_call], record), late)
        # The key was used before; or the plugin was removed meanwhile, and the result is told already.
        if not accepted or new_call.plugin not in self._router.hosts:
            return await self._known(new_call, wait_s, is_new=bool(accepted))
        call = accepted[0]
        result = await self._results.wait_for(call.id, wait_s) if wait_s else None
        if result is None:
            return messages.Fired(call_id=call.id, is_new=True)
        return messages.Fired(
            call_id=call.id,
            is_new=True,
            outcome=result.outcome.value,
            reason=result.reason,
            transaction=result.transaction,
        )

    async def _known(self, new_call: NewCall, wait_s: float, *, is_new: bool) -> messages.Fired:
        find = calls.find(new_call.plugin, new_call.identity)
        row = (await self._store.fetch(find))[0]
        reused = repetition.refusal(row, new_call, "--key")
        if reused is not None:
            raise ControlError(reused)
        if row["outcome"] is None and wait_s:
            with self._results.expecting(row["id"]) as result:
                # Once more: it may have been told between the first look and the listening.
                row = (await self._store.fetch(find))[0]
                if row["outcome"] is None:
                    await asyncio.wait([result], timeout=wait_s)
                    row = (await self._store.fetch(find))[0]
        return messages.Fired(
            call_id=row["id"],
            is_new=is_new,
            outcome=row["outcome"],
            reason=row["reason"],
            transaction=row["transaction"],
        )

    def _check_job(self, plugin: str, job: str) -> None:
        self._check_plugin(plugin)
        declared = self._router.hosts[plugin].declared
        if declared is not None and job not in declared.jobs:
            raise ControlError(f"{plugin} has no job {job!r}; it has {', '.join(declared.jobs)}")

    def _trail(self, command: str, principal: str, **details: str) -> Statement:
        return audit.append(audit.command(command, principal, self._clock.now(), **details))

    def _check_plugin(self, name: str) -> None:
        if name not in self._router.hosts:
            known = ", ".join(sorted(self._router.hosts)) or "none"
            raise ControlError(f"there is no plugin {name!r}; there are: {known}")
