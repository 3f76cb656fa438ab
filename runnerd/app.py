"""The composition root, the only place where the parts meet: builds, starts in order, stops in reverse."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from runnerd.answers import Answers
from runnerd.catalogue import Catalogue, build_catalogue
from runnerd.chain.vaults.safe_multisig import SafeMultisigVault
from runnerd.chain_commands import ChainCommands
from runnerd.chains import ChainDesk
from runnerd.clock import SystemClock
from runnerd.commands import Commands
from runnerd.config.model import Config
from runnerd.consumer_commands import ConsumerCommands
from runnerd.consuming import open_consumers
from runnerd.control.server import ControlServer
from runnerd.database import Database
from runnerd.directories import clear_links
from runnerd.executor.executor import Executor, VaultDesk
from runnerd.executor.proposals import ProposalDesk
from runnerd.executor.tracked import Book, load_book
from runnerd.executor.usage import Usage
from runnerd.key_commands import KeyCommands
from runnerd.keys import KeyRing
from runnerd.log import fields
from runnerd.network import open_network
from runnerd.opening import open_parts, open_usage
from runnerd.pauses import Pauses
from runnerd.plugins import Plugins
from runnerd.producing import open_producers
from runnerd.reload import Reloader
from runnerd.results import Results
from runnerd.router import Router
from runnerd.safe_commands import SafeCommands
from runnerd.services.http import HttpProcess
from runnerd.services.lag import LagMonitor
from runnerd.services.metrics import Metrics
from runnerd.services.systemd import Systemd
from runnerd.snapshot import open_snapshots
from runnerd.status import StatusReader
from runnerd.store import intents, keys, workers
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.supervisor.cgroups import open_cgroups
from runnerd.supervisor.context import HostServices
from runnerd.supervisor.machine import Phase
from runnerd.supervisor.monitor import Monitor
from runnerd.tasks import Tasks
from runnerd.trail import Trail
from runnerd.triggers.webhook import WebhookProducer
from runnerd.unlock import close_signers
from runnerd.vaults import build_adapter, mirror_vaults
from runnerd.wallets.signer import Signer
from runnerd.webhooks import Webhooks
from runnerd.zygotes import Zygotes

logger = logging.getLogger("runnerd")

EXIT_FAILED = 1
ADMISSION_PATIENCE_S = 5.0
"""How long readiness waits for the chains: a node that is down must not keep the operator from a running daemon."""


class App:
    """One runnerd. `run` returns the exit code; everything it started has ended then."""

    def __init__(self, config: Config, http: HttpProcess | None, systemd: Systemd) -> None:
        self._config = config
        self._http = http
        self._systemd = systemd
        self._clock = SystemClock()
        self._tasks = Tasks()
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._metrics = Metrics(phase.value for phase in Phase)
        self._pauses = Pauses()
        self._zygotes = Zygotes()
        self._cgroups = open_cgroups()
        self._lag = LagMonitor(self._metrics)
        self._vault_desks: dict[str, VaultDesk] = {}

    async def run(self) -> int:
        """Start, serve until told to stop, drain."""
        self._catch_signals()
        started = time.monotonic()
        async with Database(self._config) as dsn:
            store = Store(dsn)
            signers: dict[str, Signer] = {}
            try:
                await open_parts(self._config.wallets, self._zygotes, store, signers)
                clear_links(self._config)
                trail = Trail(store, self._clock, self._config)
                await trail.record_start()
                await self._serve(store, dsn, signers, started, trail)
                await trail.record_stop()
            finally:
                await self._zygotes.close()
                await close_signers(signers)
                await store.close()
        logger.info("stopped", extra=fields("stopped"))
        return self._exit_code

    async def _serve(self, store: Store, dsn: str, signers: dict[str, Signer], started: float, trail: Trail) -> None:
        config, clock, metrics = self._config, self._clock, self._metrics
        results = await self._open_results(store)
        catalogues = self._build_catalogues()
        router = Router(store, results, metrics, clock)
        usage = await open_usage(config, store, clock, catalogues, signers, router)
        book = await self._open_book(store, results, usage)
        chains = await self._open_chains(store, signers, catalogues, book, usage)
        executor = Executor(
            self._vault_desks, await _ledger_id(store), store, results, self._pauses, book, usage, clock
        )
        await executor.give_up_unconfigured(frozenset(config.vaults))
        await router.load()
        ring = KeyRing(await store.fetch(keys.every()))
        webhook = WebhookProducer(self._no_webhooks)
        networks = {name: chain.network for name, chain in chains.items()}
        snapshots = open_snapshots(config, catalogues, networks)
        producers, outbox = open_producers(
            config.database.event_dsn or dsn, router, store, metrics, clock, webhook, networks, snapshots
        )
        desk = Answers(executor, self._vault_desks, config.vaults, router.hosts, self._pauses, store, metrics, clock)
        self._consumers = consumers = await open_consumers(config, dsn, desk, results, store, metrics, clock)
        services = HostServices(
            clock=clock,
            store=store,
            results=results,
            metrics=metrics,
            pauses=self._pauses,
            birthplace=self._zygotes,
            monitor=Monitor(),
            cgroups=self._cgroups,
            runtime_dir=str(config.runtime_dir),
            snapshots=snapshots,
            executor=executor,
            chains=config.chains.keys(),
            on_declared=lambda plugin, triggers: plugins.on_declared(plugin, triggers),  # noqa: PLW0108  # made below
        )
        plugins = Plugins(
            services, router, producers,
            {row["plugin"]: row["generation"] for row in await store.fetch(workers.last_generations())},
            lambda vault: config.vaults[vault].chain,
        )  # fmt: skip
        for name, plugin in config.plugins.items():
            plugins.add(name, plugin)

        async def open_vaults(chain: ChainDesk) -> None:
            await self._open_vaults(chain, book, executor, plugins)

        status = StatusReader(
            config, plugins.hosts, chains, self._vault_desks, store, book, usage, self._pauses, results, metrics,
            producers, consumers, self._zygotes, self._http, lambda: self._lag.latest_s, clock,
        )  # fmt: skip
        commands = Commands(
            router, plugins, results, self._pauses, store, status,
            {name: vault.actions.keys() for name, vault in config.vaults.items()},
            SafeCommands(self._vault_desks), ChainCommands(chains, self._vault_desks, book, store, clock),
            KeyCommands(ring, plugins.hosts, store, clock), ConsumerCommands(consumers, store, clock), clock,
            outbox,
        )  # fmt: skip
        control = ControlServer(config.control_socket, commands.handle)
        await control.open()
        webhooks = Webhooks(ring, webhook, router, results, store, status.page, config.http.requests_per_s, clock)
        if self._http is not None:
            self._http.serve(webhooks.answer)
        self._start_services(store)
        producers.start()
        await self._admit(chains, open_vaults)
        await router.recover()
        reloader = Reloader(config, plugins, self._systemd, trail)
        reloading = self._vital(reloader.run(), "config:reload")
        self._on_hang_up(reloader.request)
        status.is_ready = True
        self._systemd.notify("READY=1", f"STATUS={len(config.plugins)} plugins")
        logger.info(
            "ready in %.2f s", time.monotonic() - started,
            extra=fields("ready", plugins=len(config.plugins), control=str(config.control_socket),
                         http=self._http.address if self._http else None),
        )  # fmt: skip

        await self._stop.wait()
        self._systemd.notify("STOPPING=1")
        logger.info("stopping", extra=fields("stopping"))
        router.is_draining, status.is_ready = True, False
        self._on_hang_up(_do_nothing)
        reloading.cancel()  # else it would start what is being stopped
        await asyncio.wait([reloading])
        await producers.close()
        await webhooks.close()
        await plugins.close()
        await self._drain(executor, control, chains)

    async def _open_results(self, store: Store) -> Results:
        """With the newest outcomes; and the pauses that stand."""
        results = Results(store, self._clock)
        results.add_consumer(self._metrics.finished)
        await results.load(list(self._config.plugins))
        self._pauses.load(await store.fetch(workers.pauses()))
        return results

    def _build_catalogues(self) -> dict[str, Catalogue]:
        """By vault; reducing mode lets pass what they say."""
        vaults = self._config.vaults.items()
        catalogues = {name: build_catalogue(name, vault, self._config.address_lists) for name, vault in vaults}
        self._pauses.reducing = {name: catalogue.reducing for name, catalogue in catalogues.items()}
        return catalogues

    async def _admit(
        self, chains: Mapping[str, ChainDesk], open_vaults: Callable[[ChainDesk], Coroutine[Any, Any, None]]
    ) -> None:
        """Ask the chains, and wait for them a while."""
        admissions = [chain.start(open_vaults, self._fail) for chain in chains.values()]
        if admissions:
            await asyncio.wait(admissions, timeout=ADMISSION_PATIENCE_S)

    async def _open_book(self, store: Store, results: Results, usage: Usage) -> Book:
        """With the intents that a former process left open."""
        book = Book(store, results, self._clock, usage.gas)
        book.on_ended(lambda intent: self._metrics.ended(intent.state))
        await load_book(book, await store.fetch(intents.open_intents()))
        return book

    async def _open_chains(
        self,
        store: Store,
        signers: dict[str, Signer],
        catalogues: Mapping[str, Catalogue],
        book: Book,
        usage: Usage,
    ) -> dict[str, ChainDesk]:
        """Each with the knobs that an operator has turned. Nothing is asked or signed yet."""
        chains = {
            name: ChainDesk(
                open_network(name, chain, self._metrics),
                {key: vault for key, vault in self._config.vaults.items() if vault.chain == name},
                self._config.wallets, signers, catalogues, store, book, self._pauses, usage.gas, self._metrics,
                self._clock,
            )
            for name, chain in self._config.chains.items()
        }  # fmt: skip
        await asyncio.gather(*(chain.load_knobs() for chain in chains.values()))
        return chains

    def _no_webhooks(self) -> str | None:
        """Why no request arrives; None if one can."""
        if self._http is None:
            return "no request can arrive: http.enabled = false"
        return "the http process is gone: restart runnerd" if self._http.is_lost else None

    def _start_services(self, store: Store) -> None:
        self._consumers.start()
        self._tasks.spawn(self._lag.run(), "service:lag")
        self._vital(self._guard(store), "store:watch")
        if self._systemd.has_watchdog:
            self._vital(self._systemd.watch(), "service:watchdog")

    async def _drain(self, executor: Executor, control: ControlServer, chains: Mapping[str, ChainDesk]) -> None:
        """No plugin runs any more: close what they worked with."""
        await self._consumers.close()
        await executor.close()
        await control.close()
        if self._http is not None:
            await self._http.stop_serving()
        for chain in chains.values():
            await chain.close()
        await self._tasks.cancel()

    async def _open_vaults(self, chain: ChainDesk, book: Book, executor: Executor, plugins: Plugins) -> None:
        """The chain has answered: open its vaults, go on with what a former process left, let its plugins run.

        Called again, from the beginning, when the ledger was away meanwhile. Raises StoreError.
        """
        admission = chain.admission
        assert admission is not None  # it has answered
        refused = {name: admission.chain_problem or admission.refused.get(name) for name in chain.vaults}
        for name, reason in refused.items():
            if reason is not None:
                await executor.give_up_vault(name, reason)
                continue
            vault = chain.vaults[name]
            lane = chain.lane_of(name)
            adapter = build_adapter(vault, lane.signer.address)
            proposals = ProposalDesk(name, adapter, lane, book) if isinstance(adapter, SafeMultisigVault) else None
            catalogue = build_catalogue(name, vault, self._config.address_lists)
            self._vault_desks[name] = VaultDesk(name, catalogue, adapter, lane, proposals)
        desks = [self._vault_desks[name] for name in chain.vaults if name in self._vault_desks]
        chain.mirror = mirror_vaults(chain.network, desks, executor.ids_on_the_way)
        if admission.chain_problem is None:
            await executor.resume(frozenset(chain.vaults))
            chain.run(self._fail, executor.replan)
            for name in chain.vaults:
                desk = self._vault_desks.get(name)
                if desk is not None and desk.proposals is not None:
                    chain.also(desk.proposals.run(), f"proposals:{name}", self._fail)
        for name, reason in refused.items():
            plugins.on_vault(name, reason)

    async def _guard(self, store: Store) -> None:
        """Until the writer ends, for whatever reason: without the ledger's lock nothing may be signed."""
        try:
            await store.run_until_failed()
        except Exception as error:
            logger.critical("the ledger is lost: %s", error, extra=fields("store_failed"))

    def _vital(self, coroutine: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        return self._tasks.spawn_vital(coroutine, name, self._fail)

    def _fail(self, task: str) -> None:
        """Stop, and say so with the exit code: systemd starts a whole runnerd again, a part of one helps nobody."""
        self._exit_code = EXIT_FAILED
        self._systemd.notify(f"STATUS={task} ended")
        self._stop.set()

    # --- signals -----------------------------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._on_hang_up(_do_nothing)

    def _on_hang_up(self, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, action)


async def _ledger_id(store: Store) -> bytes:
    """What tells this ledger's intents from those of every other."""
    (row,) = await store.fetch(Statement("select id from ledger"))
    ledger_id: bytes = row["id"].bytes
    return ledger_id


def _do_nothing() -> None:
    """What SIGHUP does while there is nothing to reload: by default it would end the process."""
