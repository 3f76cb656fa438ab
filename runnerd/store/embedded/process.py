"""One PostgreSQL program as a direct child: started through the launcher, its output drained, its end awaited.

The child dies when the *thread* that started it ends, so start it where the event loop of the process runs.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from runnerd.store.embedded.account import Account
from runnerd.store.embedded.log_file import LogFile

LAUNCHER = Path(__file__).with_name("launcher.py")
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
PIPE_DEADLINE_S = 1.0


class Program(asyncio.SubprocessProtocol):
    """A running program. Made by `start`; `end` it, or wait until it has ended by itself."""

    def __init__(self, log: LogFile) -> None:
        loop = asyncio.get_running_loop()
        self._log = log
        self._exited: asyncio.Future[int] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.SubprocessTransport

    @classmethod
    async def start(
        cls, command: Sequence[str | Path], account: Account, log: LogFile, inherited: Sequence[int]
    ) -> "Program":
        """Run `command` as `account`. It and its children hold the descriptors `inherited` open."""
        identity = (str(os.getpid()), str(account.uid), str(account.gid))
        _, program = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(log),
            *(sys.executable, "-I", "-S", str(LAUNCHER), *identity, *map(str, command)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=ENVIRONMENT,
            cwd="/",
            # A Ctrl-C at the terminal is runnerd's to handle: it needs the ledger until it has drained.
            start_new_session=True,
            pass_fds=inherited,
        )
        return program

    @property
    def pid(self) -> int:
        """For display, and to recognise the server's own status file."""
        return self._transport.get_pid()

    @property
    def has_exited(self) -> bool:
        """It ended and was reaped."""
        return self._exited.done()

    async def wait(self) -> int:
        """Its exit code (negative: the signal that ended it), when it has ended and its output is read."""
        code = await asyncio.shield(self._exited)
        # A grandchild may hold the pipe a little longer.
        await asyncio.wait([self._closed], timeout=PIPE_DEADLINE_S)
        self._transport.close()
        return code

    async def end(self, signals: Sequence[tuple[int, float]]) -> None:
        """Send each signal in turn, each with its seconds to work, until the program has ended."""
        for number, patience_s in signals:
            if self.has_exited:
                break
            with suppress(ProcessLookupError):
                self._transport.send_signal(number)
            await asyncio.wait([self._exited], timeout=patience_s)
        if self.has_exited:
            await self.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See SubprocessProtocol."""
        # Not asserted: uvloop's transport has the methods without being a subclass.
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """See SubprocessProtocol."""
        self._log.write(data)

    def process_exited(self) -> None:
        """See SubprocessProtocol."""
        code = self._transport.get_returncode()
        if not self._exited.done():
            self._exited.set_result(-1 if code is None else code)

    def connection_lost(self, exc: Exception | None) -> None:
        """See SubprocessProtocol."""
        if not self._closed.done():
            self._closed.set_result(None)
