"""Wakes the cron producer at a moment of the wall clock, or when somebody sets that clock.

One timerfd for all plugins: the kernel wakes us within some 30 µs, where the loop's own timers are rounded to whole
milliseconds, and it tells when the clock was set, where a sleeping loop would notice after its next look.
"""

import asyncio
import ctypes
import errno
import os
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_REALTIME: Final = 0
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ABSTIME: Final = 1
_CANCEL_ON_SET: Final = 2
_EXPIRATIONS_BYTES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = timedelta(microseconds=1)
_NEVER: Final = _EPOCH + timedelta(days=365 * 200)
"""A timer that is not armed does not tell either that the clock was set."""


class Alarm(Protocol):
    """What the producer waits with."""

    async def wait(self, until: datetime | None) -> None:
        """Return at `until`, when the wall clock was set, or when it is rung; at once if it was since the last time."""

    def ring(self) -> None:
        """Let `wait` return: what is due next has changed."""

    def close(self) -> None:
        """Give back what it holds."""


class TimerAlarm:
    """`Alarm` on a timerfd. Belongs to the loop that is running when it first waits."""

    def __init__(self) -> None:
        """Raises OSError when this process is out of descriptors."""
        # Python has os.timerfd_create since 3.13 only.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_REALTIME, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._rung = asyncio.Event()
        self._is_read = False
        self._armed_for: datetime | None = None

    async def wait(self, until: datetime | None) -> None:
        """See Alarm."""
        if not self._is_read:
            self._is_read = True
            asyncio.get_running_loop().add_reader(self._fd, self._on_readable)
        moment = until or _NEVER
        if moment != self._armed_for:
            self._arm(moment)
        await self._rung.wait()
        self._rung.clear()

    def ring(self) -> None:
        """See Alarm."""
        self._rung.set()

    def close(self) -> None:
        """See Alarm."""
        if self._fd >= 0:
            if self._is_read:
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, moment: datetime) -> None:
        seconds, micros = divmod((moment - _EPOCH) // _MICRO, 1_000_000)
        # struct itimerspec: an interval (none), and the first time. Zero would disarm it.
        spec = (ctypes.c_long * 4)(0, 0, seconds, micros * 1_000 or (0 if seconds else 1))
        self._armed_for = moment
        if self._libc.timerfd_settime(self._fd, _ABSTIME | _CANCEL_ON_SET, spec, None) < 0:
            code = ctypes.get_errno()
            if code != errno.ECANCELED:
                raise OSError(code, "timerfd_settime")
            self.ring()  # set just before: it is armed nevertheless

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._armed_for = None
        self.ring()
