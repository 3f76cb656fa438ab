"""The seam between what is said (`rpc`, `jsonrpc`) and how it reaches the node (http, websocket, ipc)."""

from typing import Protocol

MAX_ANSWER_BYTES = 64 << 20
"""A larger answer ends its connection. The largest one wanted is a page of eth_getLogs, a few MiB."""


class TransportFault(Exception):
    """The connection or the peer's protocol broke. `rpc` turns it, OSError and the deadline into RpcUnavailable.

    The text may be shown: it never holds the url, headers or more than a few words of what the peer sent.
    """


class Transport(Protocol):
    """One node's connection or pool of them. Dials when first used and again after a loss, never by itself."""

    async def exchange(self, request_id: int, body: bytes) -> bytes:
        """Send one JSON-RPC message and return the message that answers `request_id` (a batch: its first id).

        Raises TransportFault or OSError. The caller holds the deadline: cancelling forgets the request.
        """

    async def close(self) -> None:
        """Close every connection; requests under way fail with TransportFault."""
