"""Metrics in the conformance suite: a counter on chain, and a trigger for each value of it, by blocks or by a clock.

Each stimulus adds one and crosses the bound of one trigger for good. So none of them takes another one back, and after
a downtime all that were crossed are found at the first look.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg

from protocol.messages import VaultRef
from protocol.triggers import Metric, Read, Trigger
from runnerd.config.grants import ReadGrant
from runnerd.config.model import VaultConfig
from runnerd.network import Network
from runnerd.triggers.metric import MetricProducer
from runnerd.triggers.producer import Producer
from runnerd.vaults.catalogue import build_catalogue
from runnerd.vaults.snapshot import VaultSnapshots
from tests.support.anvil import Anvil
from tests.support.counter import COUNT, count_on, deploy_counter
from tests.triggers.conformance.adapter import Parts, Seen, Source
from tests.triggers.conformance.chain import CHAIN_ID, OnNode, Polled, open_local, running_node
from tests.triggers.conformance.host import PLUGINS, TERMS

BOUNDS = 24
PATIENCE_S = 20.0
LOOK_EVERY_S = 0.01
HEARD = "select count(*) from job_calls where trigger = 'metric' and source like %s"
ALIVE = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


class Counting(OnNode):
    """See `adapter.Source`. Of what it causes at once only the last is waited for: the others come in a heap."""

    def __init__(self, node: Anvil, ledger: "psycopg.AsyncConnection[tuple[int]]") -> None:
        self._contract = deploy_counter(node)
        super().__init__(node, contract=self._contract)
        self._ledger = ledger

    async def cause(self, count: int) -> list[str]:
        numbers = [await asyncio.to_thread(count_on, self._node, self._contract) for _ in range(count)]
        assert numbers[-1] <= BOUNDS, "there is no trigger for this one"
        async with asyncio.timeout(PATIENCE_S):
            # A value that nobody has seen before the next one comes is no lost stimulus: metrics say so. So each is
            # there until it was called for; or until there is nobody who could.
            while await self._ask(ALIVE) and await self._ask(HEARD, f"% above {numbers[-1] - 1} %") < len(PLUGINS):  # noqa: ASYNC110  # another server: it tells nobody
                await asyncio.sleep(LOOK_EVERY_S)
        return [str(number) for number in numbers]

    async def repeat(self) -> None:
        """More blocks with the same value."""
        for _ in range(5):
            await asyncio.to_thread(self._node.rpc, "evm_mine")

    def name_of(self, seen: Seen) -> str:
        found = re.search(r" above (\d+) ", seen.identity)
        assert found is not None, seen
        return str(int(found[1]) + 1)

    async def _ask(self, query: str, *values: str) -> int:
        row = await (await self._ledger.execute(query.encode(), values or None)).fetchone()
        assert row is not None
        return row[0]


@asynccontextmanager
async def _counting(dsn: str) -> AsyncIterator[Source]:
    async with (
        running_node(prune_history=False) as node,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as ledger,
    ):
        yield Counting(node, ledger)


class MetricAdapter:
    """See `adapter.Adapter`. No twins: two that look at different blocks would each see the value cross for the first
    time, and nothing but the ledger's lock keeps a second runnerd away."""

    name = "metric"
    keeps = True
    is_bounded = False
    twins = 1
    flood = 10
    take_s = 0.05

    def prepare(self) -> None:
        """Nothing."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _counting(dsn)

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [
            Metric(read=Read("count"), above=bound, every_seconds=0.1 if bound % 2 else None) for bound in range(BOUNDS)
        ]

    def build(self, parts: Parts) -> Producer:
        network = open_local(parts.params["url"])
        snapshots = _snapshots(network, parts.params["contract"])
        producer = MetricProducer({"local": network}, snapshots, parts.router, parts.store, parts.clock)
        return Polled(producer, network)

    def is_listening(self, producer: Producer) -> bool:
        return True  # it was declared: whatever it finds at its first look counts


def _snapshots(network: Network, contract: str) -> VaultSnapshots:
    grant = ReadGrant(contract=contract, function=COUNT)
    vault = VaultConfig(chain="local", address=contract, wallet="none", reads={"count": grant})
    ref = VaultRef(name=TERMS.vault, address=contract, chain_id=CHAIN_ID, actions=())
    return VaultSnapshots({TERMS.vault: (ref, build_catalogue(TERMS.vault, vault), network)})


ADAPTER = MetricAdapter()
