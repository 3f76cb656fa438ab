"""A node that answers from a script: `NodeConnection` without a network, for what no real node can be made to say."""

from collections.abc import Callable, Sequence

from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import Block

HASH = "0x" + "ab" * 32
BLOCK = Block(number=7, hash=HASH, timestamp=1, base_fee_wei=10, gas_limit=30_000_000)


def wire_block(number: int) -> dict[str, JsonValue]:
    """A block as a node sends it, with fields that nobody reads."""
    return {
        "number": hex(number),
        "hash": f"0x{number:064x}",
        "parentHash": f"0x{max(number - 1, 0):064X}",
        "timestamp": hex(1_700_000_000 + number),
        "gasLimit": "0x1c9c380",
        "baseFeePerGas": "0x7",
        "extraData": "0x",
        "transactions": [],
    }


class FakeNode:
    """Every request goes to `answer`; a returned RpcRefused is raised by `call` and kept in its place by `batch`."""

    def __init__(
        self, answer: Callable[[str, Sequence[JsonParam]], JsonValue | RpcRefused], url_for_display: str = "http://node"
    ) -> None:
        self.url_for_display = url_for_display
        self.hear: Callable[[JsonValue], None] = lambda _: None
        """Who is told of the blocks that this node announces."""
        self.requests: list[Request] = []
        self.timeout_s: float | None = None
        self._answer = answer

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        self.requests.append((method, params))
        self.timeout_s = timeout_s
        answer = self._answer(method, params)
        if isinstance(answer, RpcRefused):
            raise answer
        return answer

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        self.requests += requests
        self.timeout_s = timeout_s
        return [self._answer(method, params) for method, params in requests]

    def on_new_head(self, hear: Callable[[JsonValue], None]) -> None:
        self.hear = hear

    def ring(self) -> None:
        """An announcement that cannot be read."""
        self.hear(None)

    async def close(self) -> None:
        """There is nothing to close."""
