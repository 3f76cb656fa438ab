"""Several scripted nodes of one chain, behind one Network: what each says is set by the test."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from runnerd.chain.errors import RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.config.model import ChainConfig
from runnerd.network import Network, open_network
from tests.chain.fake_node import FakeNode, wire_block

URLS = ("http://a", "http://b", "http://c", "http://d")


class ScriptedNode(FakeNode):
    """At `height` of chain `chain_id`; `results` by method, the same to any parameters."""

    def __init__(self, url: str) -> None:
        super().__init__(self.say, url)
        self.chain_id = 1
        self.height = 100
        self.results: dict[str, JsonValue | RpcRefused] = {}
        self.finalized = 0
        self.is_down = False
        self.held: asyncio.Event | None = None
        """Answers come when it is set."""
        self.trips: list[list[str]] = []
        """The methods of each round trip."""
        self.is_closed = False

    def say(self, method: str, params: Sequence[JsonParam]) -> JsonValue | RpcRefused:
        match method:
            case "eth_chainId":
                return hex(self.chain_id)
            case "eth_getBlockByNumber" if params[0] == "latest":
                return wire_block(self.height)
            case "eth_getBlockByNumber" if params[0] == "finalized":
                return wire_block(self.finalized)
            case _:
                return self.results.get(method)

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        await self._travel([method])
        return await super().call(method, params, timeout_s=timeout_s)

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        await self._travel([method for method, _ in requests])
        return await super().batch(requests, timeout_s=timeout_s)

    async def close(self) -> None:
        self.is_closed = True

    async def _travel(self, methods: list[str]) -> None:
        self.trips.append(methods)
        await asyncio.sleep(0)
        if self.held is not None:
            await self.held.wait()
        if self.is_down:
            raise RpcUnavailable("is down", url=self.url_for_display)


class Lies:
    """A `NodeMetrics` that keeps what is counted."""

    def __init__(self) -> None:
        self.lies: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self.heads: dict[str, int | None] = {}
        self.up: dict[str, bool] = {}

    def node_answered(self, chain: str, node: str, seconds: float) -> None:
        assert seconds >= 0

    def node_failed(self, chain: str, node: str) -> None:
        self.errors.append(node)

    def node_lied(self, chain: str, node: str, what: str) -> None:
        self.lies.append((node, what))

    def node_seen(self, chain: str, node: str, *, is_up: bool, head: int | None) -> None:
        self.up[node], self.heads[node] = is_up, head


class Fleet:
    """`nodes[i]` answers at `URLS[i]`."""

    def __init__(self, count: int, **config: Any) -> None:
        self.metrics = Lies()
        urls = URLS[:count]
        by_url: Mapping[str, ScriptedNode] = {url: ScriptedNode(url) for url in (*urls, "http://private")}
        self.nodes = [by_url[url] for url in urls]
        self.private = by_url["http://private"]
        self.network: Network = open_network(
            "x", ChainConfig(id=1, rpc=urls, **config), self.metrics, connect=by_url.__getitem__
        )

    async def poll(self, *indices: int) -> None:
        """Each of these nodes (all of them by default) is polled once more."""
        members = self.network.rpc.nodes
        for i in indices or range(len(members)):
            try:
                await members[i].head.fetch()
            except RpcUnavailable:
                continue

    def states(self) -> list[str]:
        """Of each node: in, probation, out."""
        return [node.health.state.value for node in self.network.rpc.nodes]

    def clear(self) -> None:
        """Forget the round trips so far."""
        for node in self.nodes:
            node.trips.clear()

    @property
    def trips(self) -> list[list[list[str]]]:
        """The round trips of each node."""
        return [node.trips for node in self.nodes]
