"""JSON-RPC to ONE node: one call, or several in one round trip. No retry, no failover, no opinion about answers.

Callers turn answers into values with the border functions of `types`. `NodeCalls` is what they should ask for, so that
a test can hand in a recorded node; `Rpc` is the real one.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from runnerd.chain.errors import NodeUrlInvalid, RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import (
    Request,
    decode_announcement,
    decode_answer,
    decode_batch,
    encode_batch,
    encode_request,
)
from runnerd.chain.node_url import NodeUrl, parse_node_url
from runnerd.chain.transports.base import MAX_ANSWER_BYTES, Transport, TransportFault
from runnerd.chain.transports.http import HttpTransport
from runnerd.chain.transports.ipc import open_ipc
from runnerd.chain.transports.pipeline import PipelinedTransport
from runnerd.chain.transports.websocket import open_websocket

DEFAULT_TIMEOUT_S = 10.0
SUBSCRIPTION_ID = 0  # requests that somebody waits for begin at 1

MAX_ORDINARY_BYTES: Final = 4 << 20
"""What the answer to one request may have, unless it is one of `LONG_METHODS` or a block with its transactions. The
largest are a block's 60,000 hashes and two MiB from a contract. 64 MiB of `[]` would hold up the event loop for two
seconds, only to be decoded."""
LONG_METHODS: Final = frozenset({"eth_getLogs", "eth_getTransactionReceipt", "eth_simulateV1"})
"""Logs: 45,000 of them fit into one transaction, and take 20 MiB. And all traces."""


class NodeBatches(Protocol):
    """Several requests in one round trip. Raises only RpcUnavailable and RpcRefused."""

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        """The results in the order of `requests`; a request that the node refused has its RpcRefused in its place."""


class NodeCalls(NodeBatches, Protocol):
    """The two ways to ask a node. Both raise only RpcUnavailable and RpcRefused."""

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        """The result of one request; None is a result ("no such receipt"), errors are raised."""


class Rpc:
    """`NodeCalls` over http(s), ws(s) or ipc. Connects when first used, and again after a loss.

    Use from one event loop; concurrent calls are pipelined (ws, ipc) or spread over connections (http). A call that
    meets its deadline raises RpcUnavailable and its late answer is ignored.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Raises NodeUrlInvalid. `timeout_s` covers dialling and the answer, and is the default of each call."""
        node_url = parse_node_url(url)
        self.url_for_display = node_url.display
        self._timeout_s = timeout_s
        self._transport = _open(node_url)
        self._next_id = 1

    def __repr__(self) -> str:
        return f"Rpc({self.url_for_display!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        """Ask once. Returns the result as decoded JSON; raises RpcRefused or RpcUnavailable, nothing else."""
        request_id = self._take_ids(1)
        body = encode_request(request_id, method, params)
        answer = await self._exchange(request_id, body, method, max_answer_bytes([(method, params)]), timeout_s)
        try:
            return decode_answer(answer, request_id, method)
        except RpcUnavailable as error:
            error.url = self.url_for_display
            raise

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        """Ask all in one round trip; the answers come in the order of `requests`.

        Raises RpcUnavailable for the whole batch when any answer is missing: a batch is used whole or not at all.
        Raises RpcRefused when the node takes no batches or not such long ones.
        """
        if not requests:
            return []
        first_id = self._take_ids(len(requests))
        body = encode_batch(first_id, requests)
        methods = [method for method, _ in requests]
        name = f"batch of {len(methods)}"
        answer = await self._exchange(first_id, body, name, max_answer_bytes(requests), timeout_s)
        try:
            return decode_batch(answer, first_id, methods)
        except RpcUnavailable as error:
            error.url = self.url_for_display
            raise

    def on_new_head(self, hear: Callable[[JsonValue], None]) -> None:
        """Call `hear` whenever the node announces a block, from the next connection on. Over http nothing is announced.

        With the header, or with None when there is none to be read: announcements can be lost, and are never all.
        """
        if isinstance(self._transport, PipelinedTransport):
            request = encode_request(SUBSCRIPTION_ID, "eth_subscribe", ["newHeads"])
            self._transport.subscribe(request, lambda message: hear(decode_announcement(message)))

    async def close(self) -> None:
        """Close the connections. Calls under way, and later ones, raise RpcUnavailable."""
        await self._transport.close()

    def _take_ids(self, count: int) -> int:
        first = self._next_id
        self._next_id += count
        return first

    async def _exchange(
        self, request_id: int, body: bytes, method: str, max_bytes: int, timeout_s: float | None
    ) -> bytes:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = asyncio.timeout(limit_s)
        try:
            async with deadline:
                answer = await self._transport.exchange(request_id, body)
            if len(answer) <= max_bytes:
                return answer
            reason = f"an answer larger than {max_bytes} bytes"
        except OSError as error:  # TimeoutError and ssl.SSLError are among them
            if isinstance(error, TimeoutError) and deadline.expired():
                reason = f"no answer within {limit_s:g} s"
            else:
                reason = _describe(error)
        except TransportFault as fault:
            reason = str(fault)
        except UnicodeError:  # a host name that cannot be encoded for DNS
            reason = "the host name is not valid"
        raise RpcUnavailable(reason, method=method, url=self.url_for_display)


def max_answer_bytes(requests: Sequence[Request]) -> int:
    """How long the answer to all of them may be, to be decoded. The transports' own limit holds for any answer."""
    return min(MAX_ANSWER_BYTES, sum(map(_max_bytes, requests)))


def _max_bytes(request: Request) -> int:
    method, params = request
    has_transactions = method in ("eth_getBlockByNumber", "eth_getBlockByHash") and True in params
    is_long = has_transactions or method in LONG_METHODS or method.startswith(("debug_", "trace_"))
    return MAX_ANSWER_BYTES if is_long else MAX_ORDINARY_BYTES


def _open(url: NodeUrl) -> Transport:
    match url.scheme:
        case "http" | "https":
            return HttpTransport(url)
        case "ws" | "wss":
            return open_websocket(url)
        case "ipc":
            return open_ipc(url.socket_path)
        case scheme:
            raise NodeUrlInvalid(f"scheme {scheme} is not supported")


def _describe(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    return f"{type(error).__name__}: {error.strerror or error}"
