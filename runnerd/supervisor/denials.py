"""Answers the system calls that a worker's seccomp filter refused: EPERM, and a word to whoever logs it.

Those that mean an attack (`protocol.attacks`) are not answered: the worker is ended while its thread still waits.

Owns the notify fd. The worker's thread waits in the kernel until the answer, so a flood costs its ration of the loop
(`noise`), and ends with the worker. Kernel interface: seccomp_unotify(2).
"""

import asyncio
import errno
import fcntl
import os
import select
import struct
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Final

from protocol.attacks import ATTACKS
from runnerd.supervisor.noise import Noise, Ration

try:
    import pyseccomp
except RuntimeError:  # no libseccomp: then no worker runs either, and `runnerctl doctor` must be able to say so
    pyseccomp = None

MAX_DENIALS: Final = 1_000
UNKNOWN: Final = "unknown"
"""All numbers that libseccomp has no name for: the worker chooses them, and names become labels of a metric."""
MAX_DENIALS_PER_TURN: Final = 16

_NOTIFICATION: Final = struct.Struct("=QII iIQ6Q")  # id, pid, flags, then seccomp_data: nr, arch, ip, args[6]
_RESPONSE: Final = struct.Struct("=Qqi I")  # id, val, error, flags
_RECEIVE: Final = 0xC050_2100  # _IOWR('!', 0, struct seccomp_notif)
_SEND: Final = 0xC018_2101  # _IOWR('!', 1, struct seccomp_notif_resp)


class Denials:
    """Reads one worker's notify fd until `close`, the worker's end, or the flood.

    `on_denial(name, args)` is called for each refused call, with its raw arguments; `on_flood()` once, after
    `limit` of them: from then on the kernel answers by itself (ENOSYS), and the worker should be ended.
    `on_attack(name)` comes instead of an answer, and must kill the worker before it returns.
    """

    def __init__(
        self,
        notify_fd: int,
        on_denial: Callable[[str, tuple[int, ...]], None],
        on_flood: Callable[[], None],
        on_attack: Callable[[str], None],
        limit: int = MAX_DENIALS,
        noise: Noise | None = None,
    ) -> None:
        self._fd = notify_fd
        self._on_denial = on_denial
        self._on_flood = on_flood
        self._on_attack = on_attack
        self._left = limit
        self._ration = Ration(noise or Noise())
        self._is_open = True
        self._rest: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self._poll.register(notify_fd, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self._listen()

    def close(self) -> None:
        """Stop answering. Calls that wait, and all later ones, fail in the worker with ENOSYS."""
        if self._is_open:
            self._is_open = False
            if self._rest is not None:
                self._rest.cancel()
            self._ration.end_rest()
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _listen(self) -> None:
        self._rest = None
        self._ration.end_rest()
        self._loop.add_reader(self._fd, self._answer)

    def _answer(self) -> None:
        began = perf_counter()
        self._answer_all()
        now = perf_counter()
        rest_s = self._ration.rest_after(now, now - began) if self._is_open else 0.0
        if rest_s:
            self._loop.remove_reader(self._fd)
            self._rest = self._loop.call_later(rest_s, self._listen)

    def _answer_all(self) -> None:
        for _ in range(MAX_DENIALS_PER_TURN):
            # Receiving blocks when nothing is there, so ask first, each time.
            ready = self._poll.poll(0) if self._is_open else []
            if not ready:
                return
            if not ready[0][1] & select.POLLIN:  # POLLHUP: no process wears the filter any more
                self.close()
                return
            self._answer_one()

    def _answer_one(self) -> None:
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._fd, _RECEIVE, notification)
            call_id, _, _, number, architecture, _, *args = _NOTIFICATION.unpack(notification)
            name = _name_of(architecture, number)
            if name in ATTACKS:
                self._end_attack(name, tuple(args))
                return
            # A call newer than libseccomp: programs try those first and know ENOSYS as "use the old one".
            error = errno.EPERM if name is not None else errno.ENOSYS
            fcntl.ioctl(self._fd, _SEND, _RESPONSE.pack(call_id, 0, -error, 0))
        except FileNotFoundError:  # ENOENT: the thread was interrupted or killed meanwhile
            return
        self._left -= 1
        self._on_denial(name or UNKNOWN, tuple(args))
        if self._left <= 0 and self._is_open:
            self.close()
            self._on_flood()

    def _end_attack(self, name: str, args: tuple[int, ...]) -> None:
        self._on_denial(name, args)
        self._on_attack(name)
        # Its threads get ENOSYS for this, but a SIGKILL is pending: none of them comes back to its own code.
        self.close()


@lru_cache(maxsize=1_024)  # the worker chooses the number
def _name_of(architecture: int, number: int) -> str | None:
    if pyseccomp is None:
        return None
    try:
        return bytes(pyseccomp.resolve_syscall(architecture, number)).decode()
    except ValueError:
        return None
