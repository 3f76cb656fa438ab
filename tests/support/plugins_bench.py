"""The configured plugins on virtual time: real hosts, router and producers; puppets for workers, a ledger in memory."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from protocol.triggers import Cron, Event
from runnerd.config.plugins import PluginConfig
from runnerd.plugins import Plugins
from runnerd.routing.router import Router
from runnerd.store.calls import JobResult
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase
from runnerd.triggers.cron import CronProducer
from runnerd.triggers.events import EventProducer
from runnerd.triggers.producers import Producers
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger, build_services
from tests.support.nursery import Nursery, hello, say
from tests.support.virtual_time import VirtualAlarm, VirtualClock, VirtualTimeLoop

TRIGGERS = (Cron(every_seconds=10), Event(topic="flow"))


def plugin_config(**keys: object) -> PluginConfig:
    """A plugin of vault `main` that wants slots and notifications."""
    return PluginConfig(**{"vault": "main", "triggers": TRIGGERS, **keys})  # type: ignore[arg-type]  # by name


class PluginsBench:
    """`Plugins` with all it works with. A call that ends twice fails the test."""

    def __init__(self, runtime_dir: Path, generations: Mapping[str, int] | None = None) -> None:
        self.nursery = Nursery()
        self.clock = VirtualClock()
        self.ledger = FakeLedger()
        self.services, _, _ = build_services(
            self.clock, self.ledger, birthplace=self.nursery, runtime_dir=str(runtime_dir)
        )
        results, metrics = self.services.results, self.services.metrics
        self.router = Router(self.ledger, results, metrics, self.clock)  # type: ignore[arg-type]  # its two verbs
        self.cron = CronProducer(self.router, self.ledger, metrics, self.clock, VirtualAlarm(self.clock))
        self.events = EventProducer("nowhere", self.router, self.clock)
        self.plugins = Plugins(self.services, self.router, Producers([self.cron, self.events]), generations or {})
        object.__setattr__(self.services, "on_declared", self.plugins.on_declared)
        self.results: dict[int, JobResult] = {}
        results.add_consumer(self._on_result)

    def _on_result(self, result: JobResult) -> None:
        assert result.call.id not in self.results
        self.results[result.call.id] = result

    def host(self, name: str = "alpha") -> PluginHost:
        return self.plugins.hosts[name]

    def topics(self, name: str = "alpha") -> set[str]:
        """What is listened to on its behalf."""
        return {topic for topic, plugins in self.events._topics.items() if name in plugins}

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        for _ in range(40):
            await asyncio.sleep(0)

    async def say_hello(self, name: str = "alpha") -> None:
        """Its worker is ready."""
        await self.settle()
        say(self.host(name), hello(self.host(name), plugin=name))
        await self.settle()
        assert self.host(name).state.phase is Phase.READY

    async def close(self) -> None:
        self.nursery.gate.set()
        self.nursery.holds_ends = False
        closing = asyncio.get_running_loop().create_task(self.plugins.close())
        await self.settle()
        self.nursery.close()
        await closing


def run(scenario: Callable[[PluginsBench], Coroutine[Any, Any, None]], runtime_dir: Path) -> None:
    """On virtual time."""

    async def whole() -> None:
        bench = PluginsBench(runtime_dir)
        try:
            await scenario(bench)
        finally:
            await bench.close()

    run_async(whole(), loop_factory=VirtualTimeLoop, deadline_s=86_400)
