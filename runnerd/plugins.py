"""The configured plugins in operation: which hosts exist, which may run, what a changed configuration does."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

from protocol.triggers import Trigger
from runnerd.config.plugins import PluginConfig
from runnerd.routing.router import Router
from runnerd.services.metrics import Metrics
from runnerd.supervisor.context import HostServices, PluginHeld
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase
from runnerd.tasks import Tasks
from runnerd.triggers.producer import Terms
from runnerd.triggers.producers import Producers
from runnerd.turns import StartTurns


class Plugins:
    """Owns the hosts. A plugin runs once its vault's chain has admitted the vault, and never when it was refused."""

    def __init__(
        self,
        services: HostServices,
        router: Router,
        producers: Producers,
        generations: Mapping[str, int],
        chain_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`chain_of` a vault or keeper, by its name."""
        self.hosts: dict[str, PluginHost] = router.hosts
        self._services = services
        self._producers = producers
        self._generations = generations
        self._chain_of = chain_of
        self._verdicts: dict[str, str | None] = {}
        self._tasks = Tasks()
        self._turns = StartTurns()

    @property
    def _metrics(self) -> Metrics:
        return self._services.metrics

    def add(self, name: str, config: PluginConfig) -> None:
        """Make a host; start it if its vault is admitted already."""
        host = PluginHost(name, config, self._services, self._generations.get(name, 0))
        self.hosts[name] = host
        self._metrics.watch_queue(name, lambda: host.waiting)
        self._metrics.phase(name, Phase.STOPPED)
        self._start(host)

    def on_vault(self, vault: str, refusal: str | None) -> None:
        """The vault or keeper was admitted, or refused with a reason: its plugins start, or are quarantined."""
        self._verdicts[vault] = refusal
        for host in self.hosts.values():
            if host.config.place == vault:
                self._start(host)

    def on_declared(self, plugin: str, triggers: tuple[Trigger, ...]) -> None:
        """A worker is ready: fire what it, or the operator, declares."""
        config = self.hosts[plugin].config
        terms = Terms(
            call_deadline=timedelta(seconds=config.call_deadline_s),
            spread_s=config.cron_spread_s,
            chain=self._chain_of(config.place),
            vault=config.place,
        )
        self._tasks.spawn(self._producers.declare(plugin, triggers, terms), f"declare:{plugin}")
        self._turns.free()

    def restart(self, name: str) -> None:
        """Stop the worker in order and start a new one; clears quarantine. Raises PluginHeld when it may not run."""
        host = self.hosts[name]
        if not host.config.enabled:
            raise PluginHeld(f"{name} is switched off: enabled = false")
        if host.config.place not in self._verdicts:
            raise PluginHeld(f"the chain of {_what(host)} has not answered yet")
        refusal = self._verdicts[host.config.place]
        if refusal is not None:
            raise PluginHeld(f"{_what(host)} is refused: {refusal}")
        host.restart()

    async def reload(self, wanted: Mapping[str, PluginConfig]) -> list[str]:
        """Start, stop or restart exactly the plugins whose tables changed. Returns what was done, in words.

        One at a time: a second reload would stop hosts that this one has just made.
        """
        done = []
        for name in list(self.hosts):
            host = self.hosts[name]
            if wanted.get(name) == host.config:
                continue
            if name in wanted:
                await self._replace(host, wanted[name])
                done.append(f"restarted {name}")
            else:
                await self._remove(host, "the plugin was removed from the configuration")
                done.append(f"stopped {name}")
        for name in sorted(wanted.keys() - self.hosts.keys()):
            self.add(name, wanted[name])
            done.append(f"started {name}")
        return done

    async def _replace(self, host: PluginHost, config: PluginConfig) -> None:
        """Its triggers go on meanwhile, and what they fire waits: the new worker declares its own when it is ready."""
        await host.stop()
        # Nothing may wait between here and the new host: a call that comes then would find neither.
        self._leave(host)
        self.add(host.name, config)
        successor = self.hosts[host.name]
        if not config.enabled:
            self._producers.retire(host.name)
        elif successor.state.phase in (Phase.STOPPED, Phase.QUARANTINED) and not successor.is_awaited:
            self._producers.forget(host.name)
        successor.offer_again(host.take_waiting())

    async def _remove(self, host: PluginHost, reason: str) -> None:
        self._producers.retire(host.name)
        await host.stop(reason)
        self._leave(host)

    def _leave(self, host: PluginHost) -> None:
        # Its last generation: while it stopped it may have started another.
        self._generations = {**self._generations, host.name: host.state.generation}
        del self.hosts[host.name]
        self._metrics.forget(host.name)

    async def rest(self) -> None:
        """Give no worker anything any more, and return when all have decided what they have: within their deadlines."""
        await asyncio.gather(*(host.rest() for host in self.hosts.values()))

    async def close(self) -> None:
        """Stop all; what waits stays in the ledger for the next start."""
        await self._turns.close()
        for host in self.hosts.values():
            self._tasks.spawn(host.stop(), f"stop:{host.name}")
        limit_s = max((host.config.stop_grace_s for host in self.hosts.values()), default=0) + 10
        await self._tasks.finish(limit_s)

    def _start(self, host: PluginHost) -> None:
        if host.is_ending:
            return  # the one that takes its place is started when it is made
        if not host.config.enabled:
            host.hold("enabled = false")
        elif host.config.place not in self._verdicts:
            host.hold("its chain has not answered yet", is_awaited=True)
        elif (refusal := self._verdicts[host.config.place]) is not None:
            host.refuse(refusal)
        elif host.state.phase is Phase.STOPPED:
            self._turns.start(host)


def _what(host: PluginHost) -> str:
    """Its vault or keeper, in words."""
    return f"{host.config.place_kind} {host.config.place}"
