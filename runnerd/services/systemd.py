"""sd_notify: tells systemd that we are ready, alive, or stopping. Silent where there is no systemd."""

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping

from runnerd.log import fields

logger = logging.getLogger("runnerd.systemd")

DATAGRAM = socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


class Systemd:
    """The notify socket of this service, if it is one. https://www.freedesktop.org/software/systemd/man/sd_notify.html"""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._path = environ.pop("NOTIFY_SOCKET", "")
        own = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.pop("WATCHDOG_USEC", "")
        self._watchdog_s = int(usec) / 1_000_000 if usec.isdecimal() and int(usec) and own else None

    @property
    def has_watchdog(self) -> bool:
        """Whether somebody waits for a sign of life."""
        return self._watchdog_s is not None

    def notify(self, *lines: str) -> None:
        """Send `lines`, such as `READY=1` or `STATUS=…`. Waits for nobody: a service manager that is busy misses it."""
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            with socket.socket(*DATAGRAM) as notifier:
                notifier.connect(address)
                notifier.send("\n".join(lines).encode())
        except OSError as error:
            logger.warning("systemd does not hear %s: %s", lines[0], error, extra=fields("notify_failed"))

    async def watch(self) -> None:
        """Until cancelled: tell the watchdog that the loop turns, at half its interval."""
        if self._watchdog_s is None:
            return
        while True:
            self.notify("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)
