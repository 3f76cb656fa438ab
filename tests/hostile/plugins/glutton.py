"""A plugin that takes more than it was given, and keeps it: as its call's payload says."""

import os
import threading
import time
from collections.abc import Callable

from workers.sdk import Context, Noop, Plugin

KEPT: list[object] = []


class Glutton(Plugin):
    """`do` names one of the functions below; then it waits for a moment, in which nothing grows."""

    name = "glutton"

    def decide(self, ctx: Context) -> Noop:
        """In a thread: the link goes on."""
        asked = ctx.call.json()
        DEEDS[asked["do"]]()
        time.sleep(asked["rest_s"])
        KEPT.clear()
        return Noop("had enough")


def leak_memory() -> None:
    KEPT.extend(bytearray(b"x") * (1 << 20) for _ in range(110))


def start_threads() -> None:
    threading.stack_size(64 << 10)  # or the memory limit would be met first: 8 MiB of stack each
    for _ in range(40):
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()


def open_descriptors() -> None:
    KEPT.extend(os.fdopen(os.open("/dev/null", os.O_RDONLY)) for _ in range(58))


def spin() -> None:
    until = time.thread_time() + 0.6
    while time.thread_time() < until:
        pass


DEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed for deed in (leak_memory, start_threads, open_descriptors, spin)
}
