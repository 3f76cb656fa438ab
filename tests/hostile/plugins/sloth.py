"""A hostile plugin: takes its time, and lets nobody end it, as its call's payload says."""

import asyncio
import atexit
import contextlib
import ctypes
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from workers.sdk import Context, Noop, Plugin

AN_HOUR = 3_600


class Sloth(Plugin):
    """`do` names one of the functions below."""

    name = "sloth"

    async def decide(self, ctx: Context) -> Noop:
        """Do it; few come back."""
        asked = ctx.call.json()
        print("begun", flush=True)
        if asked["do"] == "swallow_cancellation":
            while True:
                with contextlib.suppress(BaseException):
                    await asyncio.sleep(AN_HOUR)
        DEEDS[asked["do"]](ctx, asked)
        return Noop("did it, late")


def spin(*_: object) -> None:
    while True:
        pass


def hold_the_interpreter_in_c(*_: object) -> None:
    """PyDLL does not release the lock of the interpreter: no other thread and no signal handler of Python runs."""
    ctypes.PyDLL(None).sleep(AN_HOUR)


def count_in_c(*_: object) -> None:
    sum(range(10**15))


def be_deaf(ctx: Context, asked: dict[str, Any]) -> None:
    """Ignore every signal that can be ignored, past Python as well."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        libc.signal(number, ctypes.c_void_p(1))  # SIG_IGN
    until = time.monotonic() + asked.get("seconds", AN_HOUR)
    while time.monotonic() < until:
        pass


def block_at_exit(*_: object) -> None:
    """In a function for the end, in a destructor, and in the C library's list of functions for the end."""
    atexit.register(time.sleep, AN_HOUR)
    sys.modules["last"] = _Last()  # type: ignore[assignment]
    _pause = ctypes.CFUNCTYPE(None)(lambda: time.sleep(AN_HOUR))
    sys.modules["pause"] = _pause  # type: ignore[assignment]  # it must live as long as the process
    ctypes.CDLL(None).on_exit(_pause, None)


class _Last:
    def __del__(self) -> None:
        time.sleep(AN_HOUR)


DEEDS: dict[str, Callable[[Context, dict[str, Any]], None]] = {
    deed.__name__: deed for deed in (spin, hold_the_interpreter_in_c, count_in_c, be_deaf, block_at_exit)
}

if __name__ == "__main__":
    getattr(sys.modules[__name__], sys.argv[1])()
