"""`ipc:///path`: a node's unix socket, one JSON message per line. The fastest way: 34 µs a call against anvil."""

import asyncio
from typing import cast

from runnerd.chain.transports.base import MAX_ANSWER_BYTES, TransportFault
from runnerd.chain.transports.pipeline import Inbox, PipelinedTransport


class IpcChannel(asyncio.Protocol):
    """A connected unix socket. geth, erigon, reth, nethermind and anvil end each message with a newline."""

    def __init__(self, limit: int) -> None:
        self.inbox = Inbox()
        self._limit = limit
        self._partial = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it

    def data_received(self, data: bytes) -> None:
        self.inbox.last_heard_at = self.inbox.loop.time()
        *complete, rest = data.split(b"\n")
        for line in complete:
            if self._partial:
                self._partial += line
                line, self._partial = bytes(self._partial), bytearray()  # noqa: PLW2901
            if len(line) > self._limit:
                self.abort(f"the answer is larger than {self._limit} bytes")
                return
            if line.strip():
                try:
                    self.inbox.deliver(line)
                except ValueError:
                    self.abort("the node sent something that is not JSON-RPC")
                    return
        self._partial += rest
        if len(self._partial) > self._limit:
            self.abort(f"the answer is larger than {self._limit} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        self.inbox.lose(f"the connection broke: {type(exc).__name__}" if exc else "the node closed the connection")

    def send(self, message: bytes) -> None:
        if self._transport is None or self.inbox.lost_reason is not None:
            raise TransportFault(self.inbox.lost_reason or "not connected")
        self._transport.write(message + b"\n")

    def abort(self, reason: str) -> None:
        self.inbox.lose(reason)
        if self._transport is not None:
            self._transport.abort()


def open_ipc(socket_path: str, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> PipelinedTransport:
    """A transport over the unix socket at `socket_path`; nothing is dialled yet."""

    async def dial() -> IpcChannel:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: IpcChannel(max_answer_bytes), socket_path)
        return channel

    return PipelinedTransport(dial)
