"""sd_notify: tells systemd that we are ready, alive, or stopping. Silent where there is no systemd."""

import asyncio
import os
import socket
from collections.abc import MutableMapping

DATAGRAM = socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC


class Systemd:
    """The notify socket of this service, if it is one. https://www.freedesktop.org/software/systemd/man/sd_notify.html"""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._path = environ.pop("NOTIFY_SOCKET", "")
        own = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.pop("WATCHDOG_USEC", "")
        self._watchdog_s = int(usec) / 1_000_000 if usec.isdecimal() and int(usec) and own else None

    def notify(self, *lines: str) -> None:
        """Send `lines`, such as `READY=1` or `STATUS=…`."""
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with socket.socket(*DATAGRAM) as notifier:
            notifier.connect(address)
            notifier.sendall("\n".join(lines).encode())

    async def watch(self) -> None:
        """Until cancelled: tell the watchdog that the loop turns, at half its interval."""
        if self._watchdog_s is None:
            return
        while True:
            self.notify("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)
