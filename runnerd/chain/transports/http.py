"""http(s) to one node: a pool of kept-alive connections, one request at a time on each. The parser is `http1`."""

import asyncio
import ssl
from typing import cast

from runnerd.chain.node_url import NodeUrl
from runnerd.chain.transports.base import MAX_ANSWER_BYTES, TransportFault
from runnerd.chain.transports.http1 import HttpResponse, ResponseReader

MAX_CONNECTIONS = 32
"""Requests under way at once; more wait their turn within their deadline."""

IDLE_LIMIT_S = 20.0
"""An older idle connection is not used again: proxies close theirs after 30 to 75 s, and a POST lost in that race has
an unknown effect."""

JSON_RPC_STATUSES = frozenset({200, 400})  # some nodes send a JSON-RPC error with 400


class _Connection(asyncio.Protocol):
    """One TCP or TLS connection; at most one request under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._answer: asyncio.Future[HttpResponse] | None = None
        self.is_open = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        answer, reader = self._answer, self._reader
        if answer is None or reader is None or answer.done():
            self.abort()  # nobody asked: the peer closes with an error text (408), or is out of step
            return
        try:
            response = reader.feed(data)
        except TransportFault as fault:
            self.abort()
            _fail(answer, fault)
            return
        if response is not None:
            answer.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        answer, reader = self._answer, self._reader
        if answer is None or reader is None or answer.done():
            return
        if exc is not None:
            _fail(answer, TransportFault(f"the connection broke: {type(exc).__name__}"))
            return
        try:
            answer.set_result(reader.feed_eof())
        except TransportFault as fault:
            _fail(answer, fault)

    async def request(self, message: bytes) -> HttpResponse:
        """Send one request and wait for its response. Whatever interrupts this makes the connection useless."""
        if self._transport is None or not self.is_open:
            raise TransportFault("the connection is closed")
        self._reader = ResponseReader(self._limit)
        self._answer = self._loop.create_future()
        is_whole = False
        try:
            self._transport.write(message)
            response = await self._answer
            is_whole = response.is_reusable
            return response
        finally:
            self._reader = self._answer = None
            self.idle_since = self._loop.time()
            if not is_whole:
                self.abort()

    def abort(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()


class HttpTransport:
    """`Transport` over HTTP/1.1 with keep-alive. The last used idle connection is used first."""

    def __init__(self, url: NodeUrl, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._url = url
        self._limit = max_answer_bytes
        self._tls = ssl.create_default_context() if url.is_tls else None
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._is_closed = False
        authorization = f"Authorization: {url.authorization}\r\n" if url.authorization else ""
        self._head = (
            f"POST {url.target} HTTP/1.1\r\nHost: {url.host_header}\r\n{authorization}User-Agent: runnerd\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: "
        ).encode("ascii")

    async def exchange(self, request_id: int, body: bytes) -> bytes:  # noqa: ARG002  # one request per connection
        async with self._places:
            connection = self._take_idle() or await self._dial()
            response = await self._request(connection, b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        if response.status not in JSON_RPC_STATUSES or (response.status == 400 and not _is_json(response.body)):
            raise TransportFault(f"HTTP {response.status}{_hint(response.status)}")
        return response.body

    async def close(self) -> None:
        self._is_closed = True
        for connection in tuple(self._open):
            connection.abort()
        self._idle.clear()

    def _take_idle(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_LIMIT_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.idle_since >= oldest:
                return connection
            connection.abort()
            self._open.discard(connection)
        return None

    async def _dial(self) -> _Connection:
        if self._is_closed:
            raise TransportFault("closed")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._limit),
            self._url.host,
            self._url.port,
            ssl=self._tls,
            server_hostname=self._url.host if self._tls is not None else None,
        )
        self._open.add(connection)
        return connection

    async def _request(self, connection: _Connection, message: bytes) -> HttpResponse:
        try:
            return await connection.request(message)
        finally:
            if connection.is_open and not self._is_closed:
                self._idle.append(connection)
            else:
                connection.abort()
                self._open.discard(connection)


def _fail(answer: asyncio.Future[HttpResponse], fault: TransportFault) -> None:
    answer.set_exception(fault)
    answer.exception()  # marks it as seen: the caller may be cancelled in the same moment


def _is_json(body: bytes) -> bool:
    return body.lstrip()[:1] in {b"{", b"["}


def _hint(status: int) -> str:
    match status:
        case 401 | 403:
            return ": the node refuses the credentials or API key in the url"
        case 404:
            return ": nothing speaks JSON-RPC at this path"
        case 429:
            return ": too many requests"
        case _:
            return ""
