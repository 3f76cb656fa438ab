"""The answering end of the control socket. Bounded: one request per connection, with a size and a deadline."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from runnerd.control.messages import (
    MAX_LINE_BYTES,
    ControlError,
    Failure,
    Pending,
    Reply,
    Request,
    decode_request,
    encode,
)
from runnerd.errors import RunnerdError, explain
from runnerd.log import fields
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.control")

REQUEST_DEADLINE_S = 5.0
MODE = 0o660
Handle: TypeAlias = Callable[[Request, str], Awaitable[Reply]]
"""Answers a request of a principal (`uid:1000`). Raises RunnerdError to refuse it."""


class ControlServer:
    """Listens on one unix socket. A background service."""

    name = "control"

    def __init__(self, path: Path, handle: Handle, *, deadline_s: float = REQUEST_DEADLINE_S) -> None:
        self._path = path
        self._handle = handle
        self._deadline_s = deadline_s
        self._server: asyncio.Server | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        """Bind. A socket that a dead runnerd left is replaced; a living one was refused before (the store's lock).

        Raises ControlError when something else stands there: a path that is mistyped must not cost a keystore.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._remove_socket()
        if os.path.lexists(self._path):
            raise ControlError(f"control_socket = {self._path} is there, and is no socket: choose another path")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Created with the right mode: between bind and chmod there would be a moment for anyone.
        before = os.umask(0o777 & ~MODE)
        try:
            listener.bind(str(self._path))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            await self._tasks.cancel()
            self._remove_socket()

    async def run(self) -> None:
        """Until cancelled: each connection has a task of its own."""
        await asyncio.Event().wait()

    @property
    def trouble(self) -> str | None:
        """None: it listens, or was never started."""
        return None

    def _remove_socket(self) -> None:
        if self._path.is_socket():
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: the stream's is nobody's, and would outlive the server.
        answering = self._tasks.spawn(self._answer(reader, writer), "control:request")
        await asyncio.wait([answering])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                line = await reader.readuntil(b"\n")
            reply = encode(await self._reply(line, _principal(writer)))
            # Until all of it is taken: a client that does not read would hold the connection for ever.
            writer.transport.set_write_buffer_limits(0)
            writer.write(reply)
            async with asyncio.timeout(self._deadline_s):
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            writer.transport.abort()  # it asked nothing, does not read, or left: there is nobody to tell
        finally:
            writer.close()

    async def _reply(self, line: bytes, principal: str) -> Reply:
        try:
            return await self._handle(decode_request(line), principal)
        except RunnerdError as error:
            return Failure(reason=str(error), is_pending=isinstance(error, Pending))
        except Exception as error:  # a defect in one command must not take the supervisor with it
            logger.exception("a control command failed", extra=fields("control_failed"))
            return Failure(reason=explain(error))


def _principal(writer: asyncio.StreamWriter) -> str:
    """Who asks, from the kernel."""
    connection: socket.socket = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return f"uid:{uid}"
