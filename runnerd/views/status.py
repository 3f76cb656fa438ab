"""Puts together what `runnerctl status`, /healthz, /readyz and /metrics show. Reads the parts, changes nothing."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from runnerd import __version__
from runnerd.chain.pool.health import Fault, NodeState
from runnerd.chains import ChainDesk
from runnerd.clock import Clock
from runnerd.commands.consumers import to_status
from runnerd.config.model import Config
from runnerd.consumers.consumers import Consumers
from runnerd.control.chain_messages import NodeStatus
from runnerd.control.place_messages import KeeperStatus, VaultStatus
from runnerd.control.producer_messages import ProducerStatus
from runnerd.control.service_messages import ServiceStatus
from runnerd.control.status_messages import ChainStatus, PluginStatus, Status
from runnerd.executor.executor import VaultDesk
from runnerd.executor.tracked import Book
from runnerd.executor.usage import Usage
from runnerd.executor.wanted import IntentState
from runnerd.http.words import Page
from runnerd.pauses import Pause, Pauses
from runnerd.routing.results import Results
from runnerd.routing.routes import Routes
from runnerd.services.http import HttpProcess
from runnerd.services.metrics import Metrics
from runnerd.services.services import Services
from runnerd.store.store import Store
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase
from runnerd.triggers.producers import Producers
from runnerd.triggers.source import source_of
from runnerd.views.memory import private_memory
from runnerd.views.routes import route_problems, view_routes
from runnerd.zygotes import Zygotes

MAX_LISTED = 8


class StatusReader:
    """References to the parts that are shown."""

    def __init__(
        self,
        config: Config,
        hosts: dict[str, PluginHost],
        chains: dict[str, ChainDesk],
        vaults: dict[str, VaultDesk],
        store: Store,
        book: Book,
        usage: Usage,
        pauses: Pauses,
        results: Results,
        metrics: Metrics,
        producers: Producers,
        services: Services,
        consumers: Consumers,
        zygotes: Zygotes,
        http: HttpProcess | None,
        lag_s: Callable[[], float],
        clock: Clock,
        routes: Routes | None = None,
    ) -> None:
        self._config = config
        self._hosts = hosts
        self._chains = chains
        self._vaults = vaults
        self._store = store
        self._book = book
        self._usage = usage
        self._pauses = pauses
        self._results = results
        self._metrics = metrics
        self._producers = producers
        self._services = services
        self._consumers = consumers
        self._zygotes = zygotes
        self._http = http
        self._lag_s = lag_s
        self._clock = clock
        self._routes = routes or Routes()
        self._started_at = clock.now()
        self.is_ready = False

    async def read(self) -> Status:
        """Everything, now."""
        pids = [host.worker.pid for host in self._hosts.values() if host.worker is not None and host.worker.pid]
        # The kernel walks every page of every worker for this: in a thread, or the loop stands still meanwhile.
        memory = await asyncio.to_thread(lambda: {pid: private_memory(pid) for pid in pids})
        problems = list(self.problems())  # of the same moment as all that follows
        return Status(
            version=__version__,
            pid=os.getpid(),
            health="degraded" if problems else "healthy",
            problems=problems,
            started_at=self._started_at,
            now=self._clock.now(),
            database="connected" if self._store.is_connected else "not reachable",
            http=self._http.address if self._http is not None else None,
            zygote_pid=self._zygotes.pid,
            loop_lag_ms=round(self._lag_s() * 1000, 3),
            plugins=[self._plugin(host, memory) for _, host in sorted(self._hosts.items())],
            chains=[self._chain(name, chain) for name, chain in self._chains.items()],
            vaults=[self._vault(name) for name in self._config.vaults],
            keepers=[self._keeper(name) for name in self._config.keepers],
            open_intents=self._open_intents(),
            producers=[
                ProducerStatus(name=one.name, state=one.state.value, reason=one.reason, progress=one.progress)
                for one in self._producers.view()
            ],
            routes=view_routes(self._routes, self._hosts),
            services=[
                ServiceStatus(name=one.name, state=one.state.value, reason=one.reason, restarts=one.restarts)
                for one in self._services.view()
            ],
            consumers=[to_status(one) for one in self._consumers.view()],
        )

    def page(self, word: str) -> Page:
        """The page that the http process asks for."""
        match word:
            case "metrics":
                heads = {
                    name: chain.network.head.latest.number
                    for name, chain in self._chains.items()
                    if chain.network.head.latest is not None
                }
                balances_wei = {
                    (name, address): lane.purse.balance_wei
                    for name, chain in self._chains.items()
                    for address, lane in chain.lanes.items()
                    if lane.purse.balance_wei is not None
                }
                self._metrics.observe_parts(
                    is_database_up=self._store.is_connected,
                    heads=heads,
                    intents=self._open_intents(),
                    balances_wei=balances_wei,
                )
                return Page(status=200, content_type="metrics", body=self._metrics.render().decode())
            case "ready":
                problems = [] if self.is_ready else ["starting"]
                problems += self._blocking_problems()
                return _page(503 if problems else 200, problems or ["ready"])
            case _:
                # Alive is not the same as without problems: a restart by a health check mends no quarantined plugin.
                return _page(200, [*self.problems()] or ["healthy"])

    def problems(self) -> Iterable[str]:
        """What an operator should know, in words."""
        yield from self._blocking_problems()
        for name, host in sorted(self._hosts.items()):
            if host.state.phase in (Phase.QUARANTINED, Phase.BACKOFF, Phase.UNHEALTHY):
                yield f"plugin {name} is {host.state.phase}: {host.state.reason}"
        for name, chain in self._chains.items():
            # While all are away, the chain's own problem says it.
            if chain.problem is None:
                for node in chain.network.rpc.nodes:
                    if node.health.state is NodeState.OUT and node.health.fault is not Fault.NOT_ASKED:
                        yield f"chain {name}: node {node.name} is out: {node.health.reason}"
        for parts in (self._producers, self._services, self._consumers):
            yield from parts.problems()
        yield from route_problems(self._routes, self._hosts)
        for name, chain in self._chains.items():
            for address, lane in chain.lanes.items():
                if (shortage := lane.purse.shortage) is not None:
                    yield f"wallet {address} on {name}: {shortage}"
        yield from self._unresolved()
        yield from self._strangers()
        for pause in self._pauses.active.values():
            yield str(pause)

    def _unresolved(self) -> Iterable[str]:
        """Each is a place in its wallet's flight that stays taken."""
        places: dict[tuple[str, str], list[int]] = {}
        for tracked in self._book.open.values():
            if tracked.intent.state is IntentState.UNRESOLVED:
                places.setdefault((tracked.intent.vault, tracked.intent.wallet), []).append(tracked.intent.call_id)
        for (vault, wallet), call_ids in sorted(places.items()):
            listing = ", ".join(map(str, sorted(call_ids)))
            what = f"what became of calls {listing} is unresolved, and keeps wallet {wallet} waiting"
            yield f"{self._kind(vault)} {vault}: {what}"

    def _strangers(self) -> Iterable[str]:
        """Transactions of our wallets that nobody has said a word about, and the gaps that such ones may leave."""
        for name, chain in self._chains.items():
            auditor = chain.auditor
            if auditor is None:
                continue
            if unadopted := auditor.unadopted:
                many = f"{len(unadopted)} transactions of our wallets are" if len(unadopted) > 1 else "a transaction is"
                yield (
                    f"chain {name}: {many} not ours, and not adopted; if it was meant so: "
                    f"runnerctl adopt {unadopted[0]}"
                )
            for wallet, nonces in auditor.gaps.items():
                listing = ", ".join(map(str, nonces[:MAX_LISTED])) + (" …" if len(nonces) > MAX_LISTED else "")
                yield f"chain {name}: nonces {listing} of wallet {wallet} are missing, and are being filled"

    def _blocking_problems(self) -> Iterable[str]:
        if not self._store.is_connected:
            yield "the database is not reachable"
        if self._zygotes.pid is None:
            yield "there is no zygote: no worker can start"
        for name, chain in self._chains.items():
            if chain.problem is not None:
                yield f"chain {name}: {chain.problem}"
            elif chain.admission is not None:
                for vault, reason in chain.admission.refused.items():
                    yield f"{self._kind(vault)} {vault}: {reason}"
            for address, lane in chain.lanes.items():
                if lane.problem is not None:
                    yield f"wallet {address} on {name}: {lane.problem}"

    def _plugin(self, host: PluginHost, memory: Mapping[int, int | None]) -> PluginStatus:
        worker = host.worker
        pause = self._pauses.of(host.name, host.config.place)
        last = self._results.last.get(host.name)
        now, monotonic = self._clock.now(), self._clock.monotonic()
        return PluginStatus(
            name=host.name,
            vault=host.config.place,
            role=host.config.role,
            state=host.state.phase.value,
            reason=host.state.reason,
            generation=host.state.generation,
            pid=worker.pid if worker is not None and worker.pid else None,
            memory_bytes=memory.get(worker.pid) if worker is not None else None,
            since=datetime.fromtimestamp(now.timestamp() - (monotonic - host.state.since), now.tzinfo),
            paused=str(pause) if pause else None,
            waiting=host.waiting,
            deciding=host.deciding,
            restarts=host.restarts,
            layers=[report.layer.value for report in worker.layers if report.is_applied] if worker else [],
            missing_layers=[report.layer.value for report in worker.layers if not report.is_applied] if worker else [],
            triggers=[source_of(trigger) for trigger in host.triggers],
            next_fire=self._producers.next_due(host.name),
            last_outcome=last.outcome if last else None,
            last_reason=last.reason if last else None,
            last_at=last.finished_at if last else None,
            reducing=_text(self._pauses.reducing_of(host.name, host.config.place)),
            digest=(worker.digest or None) if worker is not None else None,
            pin=host.config.pin,
        )

    def _chain(self, name: str, chain: ChainDesk) -> ChainStatus:
        latest = chain.network.head.latest
        return ChainStatus(
            name=name,
            chain_id=chain.network.config.id,
            node=chain.network.rpc.url_for_display,
            head=latest.number if latest else None,
            problem=chain.problem,
            nodes=[
                NodeStatus(
                    name=node.name,
                    head=node.health.head,
                    state=node.health.state.value,
                    reason=node.health.reason,
                )
                for node in chain.network.rpc.nodes
            ],
            quorum=chain.network.config.needed_nodes,
            knobs={knob.value: turned.value for knob, turned in chain.network.knobs.turned.items()},
        )

    def _vault(self, name: str) -> VaultStatus:
        config = self._config.vaults[name]
        desk = self._vaults.get(name)
        admission = self._chains[config.chain].admission
        pause = self._pauses.of("", name)
        return VaultStatus(
            name=name,
            address=config.address,
            chain=config.chain,
            operator=desk.lane.signer.address if desk else "",
            operator_balance_wei=desk.lane.purse.balance_wei if desk else None,
            paused=str(pause) if pause else None,
            problem=admission.refused.get(name) if admission else None,
            spent_today_wei=self._usage.spent_wei(name),
            max_value_wei_per_day=config.max_value_wei_per_day,
            waiting_intents=desk.waiting if desk else 0,
            reducing=_text(self._pauses.reducing_of("", name)),
            paused_actions=[pause.name for pause in self._pauses.of_actions(name)],
        )

    def _keeper(self, name: str) -> KeeperStatus:
        config = self._config.keepers[name]
        chain = self._chains[config.chain]
        desk = self._vaults.get(name)
        pause = self._pauses.of("", name)
        return KeeperStatus(
            name=name,
            chain=config.chain,
            address=desk.lane.signer.address if desk else "",
            balance_wei=desk.lane.purse.balance_wei if desk else None,
            paused=str(pause) if pause else None,
            reducing=_text(self._pauses.reducing_of("", name)),
            problem=chain.admission.refused.get(name) if chain.admission else None,
            waiting_intents=desk.waiting if desk else 0,
            paused_actions=[pause.name for pause in self._pauses.of_actions(name)],
        )

    def _kind(self, place: str) -> str:
        return "keeper" if place in self._config.keepers else "vault"

    def _open_intents(self) -> dict[str, int]:
        return dict(Counter(tracked.intent.state.value for tracked in self._book.open.values()))


def _text(pause: Pause | None) -> str | None:
    return str(pause) if pause is not None else None


def _page(status: int, lines: list[str]) -> Page:
    return Page(status=status, content_type="text/plain; charset=utf-8", body="\n".join(lines) + "\n")
