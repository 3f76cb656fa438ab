"""Requests pipelined on one shared connection, answers found by id: what websocket and ipc have in common.

Each connection has its own `Inbox`, so a lost connection fails its own requests and no later ones.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from runnerd.chain.jsonrpc import answered_ids
from runnerd.chain.transports.base import TransportFault
from runnerd.log import fields

logger = logging.getLogger(__name__)

SILENCE_S = 1.0
"""A connection on which nothing at all came for so long, while a request waited until its caller gave up, is given up
as well: a half-open one would otherwise swallow every later request."""


class Inbox:
    """Who waits for which answer on one connection. Fed by the connection, in the event loop."""

    __slots__ = ("_waiting", "last_heard_at", "loop", "lost_reason", "on_notice")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self.lost_reason: str | None = None
        self.on_notice: Callable[[bytes], None] | None = None
        """Given each message that answers no request: an announcement."""
        self.last_heard_at = self.loop.time()

    def expect(self, request_id: int) -> asyncio.Future[bytes]:
        """A future of the message that answers `request_id`."""
        answer: asyncio.Future[bytes] = self.loop.create_future()
        self._waiting[request_id] = answer
        return answer

    def forget(self, request_id: int) -> None:
        """The caller is gone; a late answer will be ignored."""
        self._waiting.pop(request_id, None)

    def deliver(self, message: bytes) -> None:
        """Take one whole message. Raises ValueError when it is not JSON-RPC: the connection is then out of step."""
        self.last_heard_at = self.loop.time()
        answered = answered_ids(message)
        if not answered and self.on_notice is not None:
            self.on_notice(message)
            return
        for request_id in answered:
            answer = self._waiting.pop(request_id, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
                return
        # A late answer to a forgotten request, or an error without an id: whoever waits for it meets the deadline.
        logger.debug("message that nobody waits for", extra=fields("rpc_message_ignored"))

    def lose(self, reason: str) -> None:
        """The connection is gone: fail everybody who waits."""
        self.lost_reason = self.lost_reason or reason
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(TransportFault(self.lost_reason))
                answer.exception()  # marks it as seen: the caller may be cancelled in the same moment


class Channel(Protocol):
    """One open connection that carries whole messages both ways."""

    inbox: Inbox

    def send(self, message: bytes) -> None:
        """Write one message; it may still sit in a buffer when this returns."""

    def abort(self, reason: str) -> None:
        """Close at once and fail everybody who waits."""


class PipelinedTransport:
    """`Transport` over one `Channel` at a time, dialled when it is needed."""

    def __init__(self, dial: Callable[[], Awaitable[Channel]]) -> None:
        self._dial = dial
        self._subscription: tuple[bytes, Callable[[bytes], None]] | None = None
        self._channel: Channel | None = None
        self._dialling = asyncio.Lock()
        self._is_closed = False

    async def exchange(self, request_id: int, body: bytes) -> bytes:
        channel = self._channel
        if channel is None or channel.inbox.lost_reason is not None:
            channel = await self._connect()
        inbox = channel.inbox
        answer = inbox.expect(request_id)
        sent_at = inbox.loop.time()
        try:
            channel.send(body)
            return await answer
        except asyncio.CancelledError:  # usually the caller's deadline
            if inbox.last_heard_at <= sent_at <= inbox.loop.time() - SILENCE_S:
                channel.abort("the node went silent")
            raise
        finally:
            inbox.forget(request_id)

    def subscribe(self, request: bytes, on_notice: Callable[[bytes], None]) -> None:
        """Send `request` at the beginning of each later connection, and give `on_notice` each announcement.

        Nobody waits for the answer: a node that announces nothing is asked by its pollers alone.
        """
        self._subscription = request, on_notice

    async def close(self) -> None:
        self._is_closed = True
        if self._channel is not None:
            self._channel.abort("closed")

    async def _connect(self) -> Channel:
        async with self._dialling:
            if self._is_closed:
                raise TransportFault("closed")
            if self._channel is None or self._channel.inbox.lost_reason is not None:
                self._channel = None
                self._channel = await self._dial()
                if self._subscription is not None:
                    request, self._channel.inbox.on_notice = self._subscription
                    self._channel.send(request)
            return self._channel
