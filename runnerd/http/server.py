"""Runs the app in the http process: uvicorn on a socket that the supervisor bound, questions over the channel."""

import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import Any, Final

import anyio._backends._asyncio  # Starlette's streams look for it at the first request: no file opens then
import anyio.streams.memory  # noqa: F401  # the same
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from runnerd.http.app import build_app
from runnerd.http.channel import AskingEnd, ChannelBroken
from runnerd.http.confinement import confine
from runnerd.http.words import Settings
from runnerd.log import fields
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.http")

MAX_CONNECTIONS: Final = 1_024
HEAD_DEADLINE_S: Final = 10.0
"""For the line and the headers of a request: who sends them byte by byte holds a connection no longer."""
MAX_HEAD_BYTES: Final = 16_384
LAST_ANSWERS_S: Final = 0.5


async def serve(listener: socket.socket, connection: socket.socket, settings: Settings) -> None:
    """Until SIGTERM, or until the supervisor is gone."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    asking = AskingEnd(reader, writer)
    config = uvicorn.Config(
        build_app(asking),
        http=BoundedProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    config.load()  # reads the certificate and its key: no file can be opened below
    server = uvicorn.Server(config)
    tasks = Tasks()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server.lifespan = config.lifespan_class(config)  # of none: uvicorn's own `serve` would take our signals as well
    await server.startup(sockets=[listener])
    host, port = listener.getsockname()[:2]
    _warm_up()
    confine()
    logger.info("listening on %s:%d", host, port, extra=fields("http_listening", port=port))
    tasks.spawn(_listen(asking, ended), "http:channel")
    tasks.spawn(server.main_loop(), "http:clock")  # the Date header, once a second
    await ended.wait()
    for connected in server.servers:
        connected.close()
    if server.server_state.tasks:  # who still waits is told that we stop
        await asyncio.wait(server.server_state.tasks, timeout=LAST_ANSWERS_S)


async def _listen(asking: AskingEnd, ended: asyncio.Event) -> None:
    try:
        await asking.run()
    except ChannelBroken:
        pass
    finally:
        ended.set()


def _warm_up() -> None:
    """What Python imports or opens at its first use must be there before no file can be opened any more."""
    "".encode("idna")
    Path(__file__).stat()


class BoundedProtocol(H11Protocol):
    """uvicorn's, with a deadline for the head of each request, and no more connections than we have room for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        # IDLE: of the next request's head not all is here yet; what uvicorn's keep-alive timer saw is over.
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head_deadline is None:
            self._await_head()

    def _await_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_DEADLINE_S, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
