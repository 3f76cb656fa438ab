"""What the http process shows of us, which knows nothing itself: /healthz, /readyz and /metrics."""

from collections.abc import Mapping

from runnerd.chains import ChainDesk
from runnerd.executor.tracked import Book
from runnerd.http.words import Page
from runnerd.services.metrics import Metrics
from runnerd.store.store import Store
from runnerd.views.problems import Problems


class Pages:
    """Rendered from the parts each time. `is_ready` is what whoever starts and stops them says."""

    def __init__(
        self, problems: Problems, metrics: Metrics, chains: Mapping[str, ChainDesk], store: Store, book: Book
    ) -> None:
        self._problems = problems
        self._metrics = metrics
        self._chains = chains
        self._store = store
        self._book = book
        self.is_ready = False

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
                    intents=self._book.states(),
                    balances_wei=balances_wei,
                )
                return Page(status=200, content_type="metrics", body=self._metrics.render().decode())
            case "ready":
                problems = [] if self.is_ready else ["starting"]
                problems += self._problems.blocking()
                return _page(503 if problems else 200, problems or ["ready"])
            case _:
                # Alive is not the same as without problems: a restart by a health check mends no quarantined plugin.
                return _page(200, [*self._problems.all()] or ["healthy"])


def _page(status: int, lines: list[str]) -> Page:
    return Page(status=status, content_type="text/plain; charset=utf-8", body="\n".join(lines) + "\n")
