"""The composition root, the only place where the parts meet: builds them over an open ledger, runs none of them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from runnerd.chains import ChainDesk
from runnerd.clock import Clock
from runnerd.commands.chains import ChainCommands
from runnerd.commands.commands import Commands
from runnerd.commands.consumers import ConsumerCommands
from runnerd.commands.keys import KeyCommands
from runnerd.commands.safes import SafeCommands
from runnerd.config.model import Config, HttpConfig
from runnerd.consumers.echo import find_called
from runnerd.control.server import ControlServer
from runnerd.executor.executor import Executor, VaultDesk
from runnerd.executor.tracked import Book, load_book
from runnerd.executor.usage import Usage
from runnerd.extensions import Extensions, ProducerTools, ServiceTools, build_producer, build_service
from runnerd.network import open_network
from runnerd.pauses import Pauses
from runnerd.plugins import Plugins
from runnerd.routing.answers import Answers
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.routing.routes import Routes
from runnerd.runner.consuming import open_consumers
from runnerd.runner.drain import Drain
from runnerd.runner.opening import open_usage
from runnerd.runner.producing import open_producers
from runnerd.runner.reload import Reloader
from runnerd.runner.trail import Trail
from runnerd.services.http import HttpProcess
from runnerd.services.lag import LagMonitor
from runnerd.services.metrics import Metrics
from runnerd.services.service import LoopService, Restart, ServicePolicy
from runnerd.services.services import Services
from runnerd.services.systemd import Systemd
from runnerd.store import cursors, intents, keys, workers
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.supervisor.cgroups import open_cgroups
from runnerd.supervisor.context import HostServices
from runnerd.supervisor.machine import Phase
from runnerd.supervisor.monitor import Monitor
from runnerd.supervisor.places import AllRoutes
from runnerd.triggers.producers import Producers
from runnerd.triggers.webhook import WebhookProducer
from runnerd.vaults.catalogue import Catalogue, build_catalogue
from runnerd.vaults.desks import VaultOpening
from runnerd.vaults.snapshot import open_snapshots
from runnerd.views.pages import Pages
from runnerd.views.problems import Problems
from runnerd.views.status import StatusReader
from runnerd.wallets.signer import Signer
from runnerd.webhooks.keys import KeyRing
from runnerd.webhooks.webhooks import Webhooks
from runnerd.zygotes import Zygotes

VITAL = ServicePolicy(restart=Restart.VITAL)
HTTP_POLICY = ServicePolicy(backoff_first_s=0.1)
"""Who connects meanwhile waits for the next http process."""
RELOAD = "reload"
"""The service that ends first: it would start what is being stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What was opened before anything could be built on it."""

    config: Config
    extensions: Extensions
    store: Store
    dsn: str
    signers: dict[str, Signer]
    zygotes: Zygotes
    http: HttpProcess | None
    systemd: Systemd
    clock: Clock
    trail: Trail
    drain: Drain
    on_failure: Callable[[str], None]
    """Told the name of a vital task that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What runs, and what `runner` starts and stops in order."""

    book: Book
    chains: dict[str, ChainDesk]
    executor: Executor
    router: Router
    producers: Producers
    plugins: Plugins
    opening: VaultOpening
    webhooks: Webhooks
    commands: Commands
    status: StatusReader
    pages: Pages
    reloader: Reloader
    services: Services


async def assemble(ground: Ground) -> Parts:
    """Everything, with what a former run left in the ledger. Raises StoreError, ExtensionBroken."""
    config, store, clock = ground.config, ground.store, ground.clock
    metrics, pauses = Metrics(phase.value for phase in Phase), Pauses()
    results = Results(store, clock)
    results.add_consumer(metrics.finished)
    await results.load(list(config.plugins))
    pauses.load(await store.fetch(workers.pauses()))
    catalogues = {name: build_catalogue(name, place, config.address_lists) for name, place in config.places.items()}
    pauses.reducing = {name: catalogue.reducing for name, catalogue in catalogues.items()}
    router = Router(store, results, metrics, clock, Routes(config.router))
    usage = await open_usage(config, store, clock, catalogues, ground.signers, router)
    book = Book(store, results, clock, usage.gas)
    book.on_ended(lambda intent: metrics.ended(intent.state))
    await load_book(book, await store.fetch(intents.open_intents()))
    chains = await _open_chains(ground, catalogues, book, pauses, usage, metrics)
    desks: dict[str, VaultDesk] = {}
    executor = Executor(desks, await _ledger_id(store), store, results, pauses, book, usage, clock)
    await executor.give_up_unconfigured(frozenset(config.places))
    await router.load()
    ring = KeyRing(await store.fetch(keys.every()))
    networks = {name: chain.network for name, chain in chains.items()}
    snapshots = open_snapshots(config, catalogues, networks, ground.signers)
    webhook = WebhookProducer(lambda: why_no_webhooks(config.http, ground.http))
    producers, outbox = open_producers(
        config.database.event_dsn or ground.dsn, router, store, metrics, clock, webhook, networks, snapshots
    )
    _add_producers(producers, ground, router)
    enabled = [name for name, plugin in config.plugins.items() if plugin.enabled]
    await store.commit(cursors.drop_of_others(enabled))  # taken away, or switched off, while runnerd was down
    answers = Answers(executor, desks, config.places, router.hosts, pauses, store, metrics, clock, ground.drain)
    consumers = await open_consumers(
        config, ground.extensions, ground.dsn, answers, results, store, metrics, clock,
        lambda channel: find_called(
            channel, {name: host.triggers for name, host in router.hosts.items()}, config.router
        ),
    )  # fmt: skip
    plugins = Plugins(
        HostServices(
            clock=clock,
            store=store,
            results=results,
            metrics=metrics,
            pauses=pauses,
            birthplace=ground.zygotes,
            monitor=Monitor(),
            cgroups=open_cgroups(),
            runtime_dir=str(config.runtime_dir),
            all_routes=AllRoutes(config.router.layers),
            snapshots=snapshots,
            executor=executor,
            chains=config.chains.keys(),
            producers=ground.extensions.producers.keys(),
            on_declared=lambda plugin, triggers: plugins.on_declared(plugin, triggers),  # noqa: PLW0108  # made here
        ),
        router,
        producers,
        {row["plugin"]: row["generation"] for row in await store.fetch(workers.last_generations())},
        lambda place: config.places[place].chain,
    )
    for name, plugin in config.plugins.items():
        plugins.add(name, plugin)  # held until its vault's chain has answered
    lag, services = LagMonitor(metrics), Services(ground.on_failure)
    problems = Problems(
        config, plugins.hosts, chains, store, book, pauses, producers, services, consumers, ground.zygotes,
        router.routes,
    )  # fmt: skip
    pages = Pages(problems, metrics, chains, store, book)
    status = StatusReader(
        config, plugins.hosts, chains, desks, store, book, usage, pauses, results, producers, services, consumers,
        ground.zygotes, ground.http, lambda: lag.latest_s, clock, router.routes, problems,
    )  # fmt: skip
    commands = Commands(
        router, plugins, results, pauses, store, status,
        {name: place.actions.keys() for name, place in config.places.items()},
        SafeCommands(desks), ChainCommands(chains, desks, book, store, clock),
        KeyCommands(ring, plugins.hosts, store, clock), ConsumerCommands(consumers, store, clock), clock,
        outbox, ground.drain,
    )  # fmt: skip
    webhooks = Webhooks(ring, webhook, router, results, store, pages.page, config.http.requests_per_s, clock)
    reloader = Reloader(config, plugins, ground.systemd, ground.trail, ground.extensions.producers)
    services.add(LoopService("lag", lag.run))
    services.add(LoopService("ledger", store.run_until_failed), VITAL)
    if consumers.names:
        services.add(consumers)
    if ground.systemd.has_watchdog:
        services.add(LoopService("watchdog", ground.systemd.watch), VITAL)
    services.add(ControlServer(config.control_socket, commands.handle), VITAL)
    if ground.http is not None:
        services.add(LoopService("http", partial(ground.http.serve, webhooks.answer)), HTTP_POLICY)
    services.add(LoopService(RELOAD, reloader.run), VITAL)
    for name, (factory, params, policy) in ground.extensions.services.items():
        tools = ServiceTools(name=name, params=params, status=status.read, ledger=store, clock=clock)
        services.add(build_service(name, factory, tools), policy)
    return Parts(
        book=book,
        chains=chains,
        executor=executor,
        router=router,
        producers=producers,
        plugins=plugins,
        opening=VaultOpening(desks, catalogues, book, executor, plugins, ground.on_failure),
        webhooks=webhooks,
        commands=commands,
        status=status,
        pages=pages,
        reloader=reloader,
        services=services,
    )


async def _open_chains(
    ground: Ground, catalogues: Mapping[str, Catalogue], book: Book, pauses: Pauses, usage: Usage, metrics: Metrics
) -> dict[str, ChainDesk]:
    """Each with the knobs that an operator has turned. Nothing is asked or signed yet."""
    config = ground.config
    chains = {
        name: ChainDesk(
            open_network(name, chain, metrics),
            {key: place for key, place in config.places.items() if place.chain == name},
            config.wallets, ground.signers, catalogues, ground.store, book, pauses, usage.gas, metrics, ground.clock,
        )
        for name, chain in config.chains.items()
    }  # fmt: skip
    await asyncio.gather(*(chain.load_knobs() for chain in chains.values()))
    return chains


def _add_producers(producers: Producers, ground: Ground, router: Router) -> None:
    for name, (factory, params) in ground.extensions.producers.items():
        tools = ProducerTools(name=name, params=params, submit=router, ledger=ground.store, clock=ground.clock)
        producers.add(build_producer(name, factory, tools))


def why_no_webhooks(config: HttpConfig, http: HttpProcess | None) -> str | None:
    """Why no request arrives; None if one can."""
    if http is None and not config.enabled:
        return "no request can arrive: http.enabled = false"
    if http is None:  # in an application
        return "no request can arrive: this runner was given no http process; see run(config, http=...)"
    return None if http.is_there else "the http process is gone, and is started again"


async def _ledger_id(store: Store) -> bytes:
    """What tells this ledger's intents from those of every other."""
    (row,) = await store.fetch(Statement("select id from ledger"))
    ledger_id: bytes = row["id"].bytes
    return ledger_id
