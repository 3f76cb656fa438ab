"""What each command of the control socket does. Reads the parts, changes them through their own methods."""

import asyncio
import uuid
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, assert_never

from msgspec import structs

from protocol.messages import TriggerKind
from runnerd.clock import Clock
from runnerd.commands.chains import ChainCommands
from runnerd.commands.consumers import ConsumerCommands
from runnerd.commands.dry_runs import DryRuns
from runnerd.commands.keys import KeyCommands
from runnerd.commands.safes import SafeCommands
from runnerd.control import (
    chain_messages,
    consumer_messages,
    key_messages,
    messages,
    outbox_messages,
    safe_messages,
    service_messages,
)
from runnerd.control.messages import ControlError, Reply, Request
from runnerd.pauses import EVERYTHING, Mode, Pause, Pauses, Scope
from runnerd.plugins import Plugins
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.runner.drain import Drain
from runnerd.store import audit, calls, intents, workers
from runnerd.store.calls import NewCall
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.triggers.outbox import OutboxProducer
from runnerd.views.status import StatusReader

SHOWN_PAYLOAD = 1_000
"""Characters of a payload that a listing carries; the ledger has the whole."""
ROOM_BYTES = messages.MAX_LINE_BYTES // 4
"""JSON may take several bytes for a character."""


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
        self._pauses = pauses
        self._store = store
        self._status = status
        self._vaults = frozenset(vaults)
        self._actions = frozenset(f"{vault}.{action}" for vault, actions in vaults.items() for action in actions)
        self._safes = safes
        self._chain_commands = chain_commands
        self._key_commands = key_commands
        self._consumer_commands = consumer_commands
        self._clock = clock
        self._outbox = outbox
        self._dry_runs = DryRuns(router, results, store, clock)
        self._drain = drain or Drain(0)

    async def handle(self, request: Request, principal: str) -> Reply:  # noqa: PLR0912  # one for each command
        """Carry out one request of `principal`. Raises ControlError, StoreError."""
        match request:
            case messages.GetStatus():
                return await self._status.read()
            case messages.Fire():
                return await self._fire(request, principal)
            case messages.GetRuns():
                return await self._runs(request)
            case messages.GetTransactions():
                return await self._transactions(request.limit)
            case messages.GetHistory():
                self._check_plugin(request.plugin)
                rows = await self._store.fetch(workers.events(request.plugin, request.limit))
                names = [field.name for field in structs.fields(messages.HistoryEvent)]
                events = [messages.HistoryEvent(**{name: row[name] for name in names}) for row in rows]
                return messages.History(plugin=request.plugin, events=events)
            case messages.Pause() | messages.Reduce():
                return await self._pause(request, principal)
            case messages.Resume():
                return await self._resume(request, principal)
            case messages.Restart():
                self._check_plugin(request.plugin)
                self._plugins.restart(request.plugin)
                await self._store.commit(self._command("restart", principal, plugin=request.plugin))
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
        await self._store.commit(self._command("drain", principal, hurry="yes" if request.is_hurried else "no"))
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
        trail = self._command(
            "fire", principal, plugin=request.plugin, identity=identity, payload_sha256=audit.digest(request.payload)
        )
        fired = await self._submit_and_wait(new_call, request.wait_s, trail)
        if new_call.identity == identity:
            return fired
        return structs.replace(fired, fell_back_to=f"{new_call.plugin}/{new_call.job}")

    async def _submit_and_wait(self, new_call: NewCall, wait_s: float, trail: Statement) -> messages.Fired:
        accepted = await self._router.submit([new_call], trail)
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

    async def _runs(self, request: messages.GetRuns) -> Reply:
        if request.plugin is not None:
            self._check_plugin(request.plugin)
        query = calls.recent(request.plugin, request.limit, only_decided=request.only_decided)
        names = [field.name for field in structs.fields(messages.Run)]
        runs: list[messages.Run] = []
        room = ROOM_BYTES
        for row in await self._store.fetch(query):
            run = messages.Run(**{name: row[name] for name in names})
            run = structs.replace(run, payload=run.payload[:SHOWN_PAYLOAD])
            room -= len(run.payload) + len(run.decision or "") + len(run.reason or "")
            if room < 0:  # the reply is one line of bounded length: what fits, newest first
                break
            runs.append(run)
        return messages.Runs(runs=runs)

    async def _transactions(self, limit: int) -> Reply:
        names = [field.name for field in structs.fields(messages.Transaction)]
        wei = {"value_wei", "max_fee_per_gas_wei", "max_priority_fee_wei", "effective_gas_price_wei"}
        found = []
        for row in await self._store.fetch(intents.recent_transactions(limit)):
            values: dict[str, Any] = {
                name: int(row[name]) if name in wei and row[name] is not None else row[name] for name in names
            }
            found.append(messages.Transaction(**values))
        return messages.Transactions(transactions=found)

    async def _pause(self, request: messages.Pause | messages.Reduce, principal: str) -> Reply:
        mode = Mode.REDUCING if isinstance(request, messages.Reduce) else Mode.PAUSED
        scope = self._scope(request.scope, request.name)
        pause = Pause(scope, request.name, principal, self._clock.now(), mode)
        self._check_mode(pause)
        # In force at once, and durable before the operator is told so.
        self._pauses.add(pause)
        trail = self._command(
            "pause" if mode is Mode.PAUSED else "reduce", principal, scope=scope.value, name=request.name
        )
        await self._store.commit(
            workers.pause(scope.value, request.name, principal, pause.paused_at, mode.value), trail
        )
        # Once more: a resume that was committed before may have taken it away meanwhile. Commits come back in their
        # order, so the one that is in the ledger last is the last here as well.
        self._pauses.add(pause)
        return messages.Done(text=str(pause))

    async def _resume(self, request: messages.Resume, principal: str) -> Reply:
        # What is paused may be resumed, even when the configuration knows it no more.
        paused = (pause for pause in self._pauses.active.values() if pause.name == request.name)
        scope = next((pause.scope for pause in paused if pause.scope == request.scope), None)
        scope = scope or self._scope(request.scope, request.name)
        trail = self._command("resume", principal, scope=scope.value, name=request.name)
        await self._store.commit(workers.resume(scope.value, request.name), trail)
        self._pauses.remove(scope, request.name)
        left = [str(pause) for pause in self._pauses.active.values()]
        return messages.Done(text="resumed" + (f"; still: {'; '.join(left)}" if left else ""))

    def _command(self, command: str, principal: str, **details: str) -> Statement:
        """The audit trail's record of a command, to commit with its effect."""
        return audit.append(audit.command(command, principal, self._clock.now(), **details))

    def _check_mode(self, pause: Pause) -> None:
        """Reducing lets more pass than a pause: it must not come about by a command that sounds like stopping."""
        if pause.mode is not Mode.REDUCING:
            return
        if pause.scope is Scope.ACTION:
            raise ControlError("an action is paused or not; reducing is for a plugin, a vault or all")
        before = self._pauses.active.get((pause.scope, pause.name))
        if before is not None and before.mode is Mode.PAUSED:
            raise ControlError(f"{before}, and reducing would let more pass; resume it first")

    def _scope(self, scope: str, name: str) -> Scope:
        match scope:
            case Scope.ACTION if name not in self._actions:
                raise ControlError(
                    f"there is no action {name!r}; there are: {', '.join(sorted(self._actions)) or 'none'}"
                )
            case Scope.PLUGIN:
                self._check_plugin(name)
            case Scope.VAULT if name not in self._vaults:
                raise ControlError(
                    f"there is no vault or keeper {name!r}; there are: {', '.join(sorted(self._vaults))}"
                )
            case Scope.ALL if name != EVERYTHING:
                raise ControlError(f"the name of scope all is {EVERYTHING!r}")
            case Scope.ACTION | Scope.VAULT | Scope.ALL:
                pass
            case _:
                raise ControlError(f"unknown scope {scope!r}; allowed: {', '.join(Scope)}")
        return Scope(scope)

    def _check_job(self, plugin: str, job: str) -> None:
        self._check_plugin(plugin)
        declared = self._router.hosts[plugin].declared
        if declared is not None and job not in declared.jobs:
            raise ControlError(f"{plugin} has no job {job!r}; it has {', '.join(declared.jobs)}")

    def _check_plugin(self, name: str) -> None:
        if name not in self._router.hosts:
            known = ", ".join(sorted(self._router.hosts)) or "none"
            raise ControlError(f"there is no plugin {name!r}; there are: {known}")
