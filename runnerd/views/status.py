"""Puts together what `runnerctl status` shows. Reads the parts, changes nothing."""

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime

from runnerd import __version__
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
from runnerd.pauses import Pause, Pauses
from runnerd.routing.results import Results
from runnerd.routing.routes import Routes
from runnerd.services.http import HttpProcess
from runnerd.services.services import Services
from runnerd.store.store import Store
from runnerd.supervisor.host import PluginHost
from runnerd.triggers.producers import Producers
from runnerd.triggers.source import source_of
from runnerd.views.memory import private_memory
from runnerd.views.problems import Problems
from runnerd.views.routes import view_routes
from runnerd.zygotes import Zygotes


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
        producers: Producers,
        services: Services,
        consumers: Consumers,
        zygotes: Zygotes,
        http: HttpProcess | None,
        lag_s: Callable[[], float],
        clock: Clock,
        routes: Routes,
        problems: Problems,
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
        self._producers = producers
        self._services = services
        self._consumers = consumers
        self._zygotes = zygotes
        self._http = http
        self._lag_s = lag_s
        self._clock = clock
        self._routes = routes
        self._problems = problems
        self._started_at = clock.now()

    async def read(self) -> Status:
        """Everything, now."""
        pids = [host.worker.pid for host in self._hosts.values() if host.worker is not None and host.worker.pid]
        # The kernel walks every page of every worker for this: in a thread, or the loop stands still meanwhile.
        memory = await asyncio.to_thread(lambda: {pid: private_memory(pid) for pid in pids})
        problems = list(self._problems.all())  # of the same moment as all that follows
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
            open_intents=self._book.states(),
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


def _text(pause: Pause | None) -> str | None:
    return str(pause) if pause is not None else None
