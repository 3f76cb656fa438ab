"""A hostile plugin: floods and hoards, as its call's payload says. `most` bounds what it takes if nothing else does."""

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from workers.sdk import Context, Noop, Plugin

BLOCK_BYTES = 1 << 24


class Anarchist(Plugin):
    """`do` names one of the functions below."""

    name = "anarchist"

    async def decide(self, ctx: Context) -> Noop:
        """Do it, and answer if there is still somebody to answer."""
        asked = ctx.call.json()
        DEEDS[asked["do"]](ctx, asked)
        return Noop("did it")


# --- floods ----------------------------------------------------------------------------------------------------------


def flood_the_log(ctx: Context, asked: dict[str, Any]) -> None:
    for number in range(asked["lines"]):
        ctx.log.info("flood %d %s", number, "x" * 100)


def flood_stdout(ctx: Context, asked: dict[str, Any]) -> None:
    """Past Python's buffers, one long line without an end included."""
    os.write(1, b"y" * asked["bytes"])
    for number in range(asked["lines"]):
        os.write(1, b"flood %d\n" % number)


def flood_with_denials(ctx: Context, asked: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None)
    for _ in range(asked["calls"]):
        libc.setuid(os.getuid())


# --- hoards ----------------------------------------------------------------------------------------------------------


def hoard_memory(ctx: Context, asked: dict[str, Any]) -> None:
    hoard: list[bytearray] = []
    while len(hoard) * BLOCK_BYTES < asked["most"] << 20:
        block = bytearray(BLOCK_BYTES)
        block[::4_096] = b"z" * len(block[::4_096])
        hoard.append(block)


def hoard_memory_in_c(ctx: Context, asked: dict[str, Any]) -> None:
    """Where no MemoryError is raised."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    hoard: list[int] = []
    while len(hoard) * BLOCK_BYTES < asked["most"] << 20:
        block = libc.malloc(ctypes.c_size_t(BLOCK_BYTES))
        ctypes.memset(block, 1, BLOCK_BYTES)  # a null pointer ends this process, and nothing else
        hoard.append(block)
    for block in hoard:
        libc.free(ctypes.c_void_p(block))


def hoard_threads(ctx: Context, asked: dict[str, Any]) -> None:
    is_over = threading.Event()
    try:
        for _ in range(asked["most"]):
            threading.Thread(target=is_over.wait, daemon=True).start()
    finally:
        is_over.set()


def hoard_descriptors(ctx: Context, asked: dict[str, Any]) -> None:
    hoard: list[int] = []
    try:
        while len(hoard) < asked["most"]:
            hoard.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for number in hoard:
            os.close(number)


def spin_in_every_thread(ctx: Context, asked: dict[str, Any]) -> None:
    """In C and without the lock of the interpreter, so that all of them spin at once; answers meanwhile."""
    until = time.monotonic() + asked["most"]

    def spin() -> None:
        libc = ctypes.CDLL(None)
        room = ctypes.create_string_buffer(1 << 20)
        while time.monotonic() < until:
            libc.memset(room, 1, len(room))

    for _ in range(8):
        threading.Thread(target=spin, daemon=True).start()


def write_a_million_keys(ctx: Context, asked: dict[str, Any]) -> None:
    for number in range(1_000_000):
        ctx.state.put(f"key {number}", number)


def write_more_than_a_frame(ctx: Context, asked: dict[str, Any]) -> None:
    for number in range(32):
        ctx.state.put(f"key {number}", "x" * 60_000)


# --- for the scan of its memory ---------------------------------------------------------------------------------------


def remember(ctx: Context, asked: dict[str, Any]) -> None:
    sys.modules["remembered"] = bytes.fromhex(asked["hex"])  # type: ignore[assignment]


def walk_through_everything(ctx: Context, asked: dict[str, Any]) -> None:
    """Hold a copy of every text that is to be reached from here: what the zygote has frozen as well."""
    gc.unfreeze()
    seen: set[int] = set()
    texts: list[bytes] = []
    waiting: list[object] = [*gc.get_objects(), *sys._current_frames().values()]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, str | bytes):
            texts.append(found.encode(errors="replace") if isinstance(found, str) else found)
        else:
            waiting.extend(gc.get_referents(found))
    sys.modules["walked"] = b"\0".join(texts)  # type: ignore[assignment]


DEEDS: dict[str, Callable[[Context, dict[str, Any]], None]] = {
    deed.__name__: deed
    for deed in (
        flood_the_log, flood_stdout, flood_with_denials, hoard_memory, hoard_memory_in_c, hoard_threads,
        hoard_descriptors, spin_in_every_thread, write_a_million_keys, write_more_than_a_frame, remember,
        walk_through_everything,
    )
}  # fmt: skip
