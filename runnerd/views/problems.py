"""What an operator should know, in words: for `runnerctl status`, /healthz and /readyz."""

from collections.abc import Iterable, Mapping
from typing import Final

from runnerd.chain.pool.health import Fault, NodeState
from runnerd.chains import ChainDesk
from runnerd.config.model import Config
from runnerd.consumers.consumers import Consumers
from runnerd.executor.tracked import Book
from runnerd.executor.wanted import IntentState
from runnerd.pauses import Pauses
from runnerd.routing.routes import Routes
from runnerd.services.services import Services
from runnerd.store.store import Store
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase
from runnerd.triggers.producers import Producers
from runnerd.views.routes import route_problems
from runnerd.zygotes import Zygotes

MAX_LISTED: Final = 8


class Problems:
    """Read anew from the parts each time."""

    def __init__(
        self,
        config: Config,
        hosts: Mapping[str, PluginHost],
        chains: Mapping[str, ChainDesk],
        store: Store,
        book: Book,
        pauses: Pauses,
        producers: Producers,
        services: Services,
        consumers: Consumers,
        zygotes: Zygotes,
        routes: Routes,
    ) -> None:
        self._config = config
        self._hosts = hosts
        self._chains = chains
        self._store = store
        self._book = book
        self._pauses = pauses
        self._producers = producers
        self._services = services
        self._consumers = consumers
        self._zygotes = zygotes
        self._routes = routes

    def all(self) -> Iterable[str]:
        """Those that keep runnerd from its work, and those of single parts."""
        yield from self.blocking()
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

    def blocking(self) -> Iterable[str]:
        """Those with which runnerd cannot do all of its work: it is not ready."""
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

    def _kind(self, place: str) -> str:
        return "keeper" if place in self._config.keepers else "vault"
