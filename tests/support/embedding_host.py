"""An application that embeds runnerd, with parts of its own: `python -m tests.support.embedding_host --config FILE`.

Beside those it uses the packages under `packages/` in the directory of the configuration, if there are any. What its
parts are asked to do goes to standard output, a word each.
"""

import argparse
import asyncio
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import runnerd
from protocol.messages import TriggerKind
from protocol.triggers import Custom, Trigger
from runnerd.extensions import ProducerTools, ServiceTools
from runnerd.log import configure
from runnerd.store import positions
from runnerd.store.calls import NewCall
from runnerd.triggers.producer import Terms
from runnerd.triggers.source import source_of


class Countdown:
    """A finite producer: calls each plugin `from` times, and has ended."""

    def __init__(self, tools: ProducerTools) -> None:
        self.name = tools.name
        self.trouble: str | None = None
        self._tools = tools
        self._declared = asyncio.Event()
        self._due: dict[str, tuple[Custom, timedelta]] = {}

    def serves(self, trigger: Trigger) -> bool:
        return isinstance(trigger, Custom) and trigger.producer == self.name

    async def declare(self, plugin: str, triggers: Sequence[Trigger], terms: Terms) -> None:
        for trigger in triggers:
            if isinstance(trigger, Custom):
                self._due[plugin] = trigger, terms.call_deadline
                self._declared.set()

    def forget(self, plugin: str) -> None:
        self._due.pop(plugin, None)

    async def run(self) -> None:
        await self._declared.wait()
        for plugin, (trigger, deadline) in self._due.items():
            rows = await self._tools.ledger.fetch(positions.position(self.name, plugin))
            left = int(rows[0]["position"]) if rows else int(trigger.options["from"])
            while left:
                now = self._tools.clock.now()
                call = NewCall(
                    plugin=plugin, trigger=TriggerKind.CUSTOM, identity=f"{self.name} {left}", principal=self.name,
                    due_at=now, fired_at=now, deadline_at=now + deadline, source=source_of(trigger),
                )  # fmt: skip
                left -= 1
                await self._tools.submit.submit([call], positions.move(self.name, plugin, str(left), now))

    def next_due(self, plugin: str) -> datetime | None:
        return None

    def progress(self) -> str:
        return ""


class Beat:
    """A service that says what is done with it."""

    def __init__(self, tools: ServiceTools) -> None:
        self.name = tools.name
        self.trouble: str | None = None
        self._tools = tools

    async def start(self) -> None:
        print("beat starts", flush=True)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        status = await self._tools.status()
        print(f"beat stops, {[plugin.state for plugin in status.plugins]}", flush=True)


async def embed(file: Path) -> int:
    """Until SIGTERM."""
    runner = (
        runnerd.RunnerBuilder(file)
        .service("beat", Beat)
        .producer("countdown", Countdown)
        .on_shutdown(lambda: print("hook", flush=True))
        .build()
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
    async with runner:
        await runner.start()
        print(f"started, {len((await runner.status()).plugins)} plugins", flush=True)
        code = await runner
    return code + await runner.shutdown()  # once more: it changes nothing


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.config.parent / "packages"))
    multiprocessing.set_start_method("fork")
    configure("info")
    sys.exit(asyncio.run(embed(arguments.config)))
