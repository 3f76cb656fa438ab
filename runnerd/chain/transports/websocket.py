"""ws(s) to one node: RFC 6455 by `websockets`' protocol object, driven from an asyncio protocol without a reader task.

That takes 65 µs a call against anvil; the library's own connection takes 109, web3's WebSocketProvider 250.
"""

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.uri import WebSocketURI

from runnerd.chain.node_url import NodeUrl
from runnerd.chain.transports.base import MAX_ANSWER_BYTES, TransportFault
from runnerd.chain.transports.pipeline import Inbox, PipelinedTransport

SILENCE_LIMIT_MS = 15_000
"""The kernel ends a connection whose peer has not acknowledged data for so long (half-open after a network cut)."""

# At DEBUG the library logs request headers and path, which hold the API key: it gets a logger that leads nowhere.
_silent = logging.Logger("runnerd.chain.websockets")  # noqa: LOG001
_silent.addHandler(logging.NullHandler())
_silent.setLevel(logging.CRITICAL)


class WebSocketChannel(asyncio.Protocol):
    """A websocket connection. `opened` is done when the handshake is, or fails with TransportFault."""

    def __init__(self, url: NodeUrl, limit: int) -> None:
        self.inbox = Inbox()
        self.opened: asyncio.Future[None] = self.inbox.loop.create_future()
        self._url = url
        path, _, query = url.target.partition("?")
        uri = WebSocketURI(secure=url.is_tls, host=url.host, port=url.port, path=path, query=query)
        self._protocol = ClientProtocol(uri, max_size=limit, logger=_silent)
        self._fragments = bytearray()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None:
            _end_when_silent(self._socket)
        request = self._protocol.connect()
        request.headers["User-Agent"] = "runnerd"
        if self._url.authorization:
            request.headers["Authorization"] = self._url.authorization
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.inbox.lost_reason is not None:
            return
        self.inbox.last_heard_at = self.inbox.loop.time()
        self._acknowledge()
        self._protocol.receive_data(data)
        self._flush()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take_frame(event)
        if not self.opened.done():
            self._take_handshake()
        elif self._protocol.close_expected():
            self.abort(_closing_reason(self._protocol))

    def _acknowledge(self) -> None:
        """Tell the node at once that it was heard: 2 µs.

        Linux does that up to 40 ms later, and a node that has not set TCP_NODELAY, such as anvil, sends nothing until
        then: the second of two answers, or a block that comes soon after one.
        """
        if self._socket is not None:
            with suppress(OSError):  # it was closed meanwhile
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f"the connection broke: {type(exc).__name__}" if exc else "the node closed the connection"
        self.inbox.lose(reason)
        if not self.opened.done():
            self.opened.set_exception(TransportFault(reason))
            self.opened.exception()  # marks it as seen: whoever dialled may be gone

    def send(self, message: bytes) -> None:
        if self.inbox.lost_reason is not None:
            raise TransportFault(self.inbox.lost_reason)
        self._protocol.send_text(message)
        self._flush()

    def abort(self, reason: str) -> None:
        self.inbox.lose(reason)
        if self._transport is not None:
            self._transport.abort()

    def _take_handshake(self) -> None:
        error = self._protocol.handshake_exc
        if error is not None:
            reason = _handshake_reason(error)
            self.opened.set_exception(TransportFault(reason))
            self.abort(reason)
        elif self._protocol.state.name == "OPEN":
            self.opened.set_result(None)

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            return
        message = bytes(frame.data)
        if not frame.fin or self._fragments:
            self._fragments += message
            if not frame.fin:
                return
            message, self._fragments = bytes(self._fragments), bytearray()
        try:
            self.inbox.deliver(message)
        except ValueError:
            self.abort("the node sent something that is not JSON-RPC")

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)


def open_websocket(url: NodeUrl, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> PipelinedTransport:
    """A transport over a websocket to `url`; nothing is dialled yet."""
    tls = ssl.create_default_context() if url.is_tls else None

    async def dial() -> WebSocketChannel:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(
            lambda: WebSocketChannel(url, max_answer_bytes),
            url.host,
            url.port,
            ssl=tls,
            server_hostname=url.host if tls is not None else None,
        )
        try:
            await channel.opened
        except asyncio.CancelledError:
            channel.abort("the handshake took too long")
            raise
        return channel

    return PipelinedTransport(dial)


def _handshake_reason(error: BaseException) -> str:
    if isinstance(error, InvalidStatus):
        return f"the websocket handshake was refused with HTTP {error.response.status_code}"
    kind = type(error).__name__ if isinstance(error, WebSocketException) else "unknown error"
    return f"the websocket handshake failed: {kind}"


def _closing_reason(protocol: ClientProtocol) -> str:
    received = protocol.close_rcvd
    if received is not None:
        return f"the node closed the websocket with code {received.code}"
    sent = protocol.close_sent
    return f"the websocket was given up with code {sent.code}" if sent is not None else "the websocket closed"


def _end_when_silent(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_LIMIT_MS)
