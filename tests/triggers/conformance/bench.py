"""Runs hosts of one producer on one ledger, one after the other, and counts what they have made of the stimuli."""

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from tests.support.preloaded import Forked, Preloaded
from tests.triggers.conformance.adapter import Adapter, Seen, Source
from tests.triggers.conformance.host import PLUGINS, Order, Report

PROGRAM = "tests.triggers.conformance.host"
READY_S = 30.0
END_S = 20.0
LOOK_EVERY_S = 0.05
MAX_REPORT_BYTES = 1 << 24

Names = Counter[tuple[str, str]]
"""How many calls there are, by plugin and name of the stimulus."""


class Host:
    """A running host process. `is_dead`: it has ended, by its crash point or by us."""

    def __init__(self, process: Forked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @property
    def is_dead(self) -> bool:
        return self._process.poll() is not None

    async def ready(self) -> None:
        """Until its producer listens; or until it has reached its crash point before."""
        async with asyncio.timeout(READY_S):
            line = await self._readline()
            if line != b"ready\n":
                assert await self._end() == -signal.SIGKILL, f"the host ended by itself, after {line!r}"

    async def report(self) -> Report:
        """What it did not take."""
        async with asyncio.timeout(END_S):
            self._writer.write(b"report\n")
            return msgspec.json.decode(await self._readline(), type=Report)

    async def kill(self) -> None:
        """As a power cut would."""
        self._process.kill()
        await self._end()

    async def stop(self) -> None:
        """In order."""
        self._writer.write_eof()
        assert await self._end() == 0, "the host failed while it stopped"

    async def end(self) -> None:
        """Whatever state it is in."""
        await self.kill()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _end(self) -> int:
        return await asyncio.to_thread(self._process.wait, END_S)

    async def _readline(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:  # it was killed before it had read what we wrote
            return b""


class Bench:
    """One adapter, its source, and the ledger that all hosts of a test share."""

    def __init__(self, adapter: Adapter, source: Source, dsn: str, python: Preloaded) -> None:
        self.adapter = adapter
        self.source = source
        self._dsn = dsn
        self._python = python

    @asynccontextmanager
    async def host(self, **keys: Any) -> AsyncIterator[Host]:
        """A host that is ready; killed at the end if it is running still. `keys`: of `Order`."""
        order = Order(adapter=self.adapter.name, dsn=self._dsn, params=self.source.params, **keys)
        ours, theirs = socket.socketpair()
        with theirs:
            fds = {0: theirs.fileno(), 1: theirs.fileno()}
            process = self._python.start(PROGRAM, msgspec.json.encode(order).decode(), fds=fds)
        host = Host(process, *await asyncio.open_connection(sock=ours, limit=MAX_REPORT_BYTES))
        try:
            await host.ready()
            yield host
        finally:
            await host.end()

    async def until_called(self, names: Collection[str], deadline_s: float = 30.0) -> None:
        """Until each plugin has ended a call for each of these."""
        wanted = {(plugin, name) for plugin in PLUGINS for name in names}
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while missing := wanted - self.called("state = 'done'").keys():
            assert loop.time() < end, f"{len(missing)} of {len(wanted)} were not called for, as {sorted(missing)[:5]}"
            await asyncio.sleep(LOOK_EVERY_S)

    def called(self, which: str = "true") -> Names:
        """All calls of the ledger."""
        return Counter((seen.plugin, self.source.name_of(seen)) for seen in self._rows(which))

    def refused(self, report: Report) -> Names:
        """All calls that a host did not take."""
        return Counter((seen.plugin, self.source.name_of(seen)) for seen in report.refused)

    def check_none_doubled(self) -> None:
        """No stimulus has two calls of one plugin."""
        assert {name: count for name, count in self.called().items() if count > 1} == {}

    def _rows(self, which: str) -> Iterator[Seen]:
        query = f"select plugin, identity, payload, due_at from job_calls where {which} order by id"
        with psycopg.connect(self._dsn, row_factory=dict_row) as connection:
            connection.execute("set time zone 'UTC'")
            for row in connection.execute(query.encode()).fetchall():
                yield Seen(**{**row, "due_at": row["due_at"].isoformat()})
