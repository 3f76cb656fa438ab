"""The private lane of a chain: a node that passes a transaction on to block builders, and not to the public mempool.

Only the endpoint. When to use it, and whether the public way may follow, is the executor's decision: nothing here falls
back.
"""

from typing import Literal, TypeAlias

from runnerd.chain.json_values import JsonParam
from runnerd.chain.pool.node import NodeConnection
from runnerd.chain.types import decode_hash

PrivateMethod: TypeAlias = Literal["eth_sendRawTransaction", "eth_sendPrivateTransaction"]


class PrivateLane:
    """One endpoint, and how it takes a transaction."""

    def __init__(self, connection: NodeConnection, method: PrivateMethod, blocks: int) -> None:
        """`blocks`: so many blocks a transaction may wait there."""
        self.connection = connection
        self.blocks = blocks
        self._method: PrivateMethod = method

    async def send(self, raw: bytes, head: int) -> str:
        """The transaction's hash as the endpoint names it. Raises RpcUnavailable, which proves nothing, or RpcRefused.

        eth_sendPrivateTransaction is told the last block in which it may be included; a Protect-style
        eth_sendRawTransaction has a limit of its own, and the caller counts the blocks.
        """
        encoded = "0x" + raw.hex()
        params: list[JsonParam] = [encoded]
        if self._method == "eth_sendPrivateTransaction":
            params = [{"tx": encoded, "maxBlockNumber": hex(head + self.blocks)}]
        return decode_hash(await self.connection.call(self._method, params), self._method)
