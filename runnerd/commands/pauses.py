"""What `runnerctl pause`, `reduce` and `resume` ask for: kill switches, in force at once and durable."""

from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from runnerd.clock import Clock
from runnerd.control import messages
from runnerd.control.messages import ControlError, Reply
from runnerd.pauses import EVERYTHING, Mode, Pause, Pauses, Scope
from runnerd.store import audit, workers
from runnerd.store.store import Store


class PauseCommands:
    """`vaults`: the actions of each vault and keeper by name. `check_plugin` raises ControlError for an unknown one."""

    def __init__(
        self,
        pauses: Pauses,
        store: Store,
        vaults: Mapping[str, Collection[str]],
        check_plugin: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._pauses = pauses
        self._store = store
        self._vaults = frozenset(vaults)
        self._actions = frozenset(f"{vault}.{action}" for vault, actions in vaults.items() for action in actions)
        self._check_plugin = check_plugin
        self._clock = clock

    async def handle(self, request: messages.Pause | messages.Reduce | messages.Resume, principal: str) -> Reply:
        """Carry out one of them. Raises ControlError, StoreError."""
        match request:
            case messages.Pause() | messages.Reduce():
                return await self._pause(request, principal)
            case messages.Resume():
                return await self._resume(request, principal)
            case _:
                assert_never(request)

    async def _pause(self, request: messages.Pause | messages.Reduce, principal: str) -> Reply:
        mode = Mode.REDUCING if isinstance(request, messages.Reduce) else Mode.PAUSED
        scope = self._scope(request.scope, request.name)
        pause = Pause(scope, request.name, principal, self._clock.now(), mode)
        self._check_mode(pause)
        # In force at once, and durable before the operator is told so.
        self._pauses.add(pause)
        command = "pause" if mode is Mode.PAUSED else "reduce"
        record = audit.command(command, principal, pause.paused_at, scope=scope.value, name=request.name)
        await self._store.commit(
            workers.pause(scope.value, request.name, principal, pause.paused_at, mode.value), audit.append(record)
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
        record = audit.command("resume", principal, self._clock.now(), scope=scope.value, name=request.name)
        await self._store.commit(workers.resume(scope.value, request.name), audit.append(record))
        self._pauses.remove(scope, request.name)
        left = [str(pause) for pause in self._pauses.active.values()]
        return messages.Done(text="resumed" + (f"; still: {'; '.join(left)}" if left else ""))

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
