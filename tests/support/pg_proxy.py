"""A relay before PostgreSQL that can fall silent or hang up, as a network does: what a killed backend cannot show.

In the test's own event loop; over unix sockets, because that is where the test cluster listens.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class PgProxy:
    """`dsn` reaches the same database through the relay."""

    def __init__(self, dsn: str, directory: Path) -> None:
        parts: dict[str, Any] = conninfo_to_dict(dsn)
        port = parts.get("port") or 5432
        self._target = f"{parts['host']}/.s.PGSQL.{port}"
        self._path = directory / f".s.PGSQL.{port}"
        self.dsn = make_conninfo(dsn, host=str(directory))
        self.connections = 0
        self._requests, self._answers = asyncio.Event(), asyncio.Event()
        self.speak_again()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._is_refusing = False
        self.refused = 0

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def fall_silent(self) -> None:
        """Nothing goes through any more, either way, and nobody is told."""
        self._requests.clear()
        self._answers.clear()

    def keep_answers(self) -> None:
        """Requests reach the server; its answers go nowhere."""
        self._answers.clear()

    def speak_again(self) -> None:
        self._requests.set()
        self._answers.set()

    def hang_up(self) -> None:
        """Close every connection; new ones are served."""
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse(self, *, is_refusing: bool = True) -> None:
        """Close new connections at once."""
        self._is_refusing = is_refusing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._is_refusing:
            writer.transport.abort()
            self.refused += 1
            return
        self.connections += 1
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, there_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, there_writer, self._requests))
                group.create_task(self._copy(there_reader, writer, self._answers))
        except asyncio.CancelledError:
            pass  # `close` did it; asyncio's own callback on this task would take it for an error
        finally:
            self._writers -= {writer, there_writer}
            writer.transport.abort()
            there_writer.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        # A killed client resets its connection: the server must learn of that as well, or its session lives for ever.
        try:
            with suppress(OSError):
                while data := await source.read(1 << 16):
                    await flows.wait()
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()


@asynccontextmanager
async def pg_proxy(dsn: str, directory: Path) -> AsyncIterator[PgProxy]:
    """A relay for the length of the block."""
    proxy = PgProxy(dsn, directory)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
