"""A loud neighbour: at each of its calls it does what `params.deed` says, and never more softly than it can."""

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import Awaitable, Callable

import zmq

from workers.sdk import Context, Noop, Plugin

BURST_S = 0.05
"""Of each tenth of a second, for deeds that would otherwise never answer."""


class Loud(Plugin):
    """See DEEDS."""

    name = "loud"

    async def decide(self, ctx: Context) -> Noop:
        """Do it."""
        await DEEDS[str(ctx.params["deed"])](ctx)
        return Noop("was loud")


async def crash(ctx: Context) -> None:
    os.abort()


async def hang(ctx: Context) -> None:
    time.sleep(600)  # noqa: ASYNC251


async def compute(ctx: Context) -> None:
    """In threads, without end; the GIL is not in the way of C."""
    while threading.active_count() < 8:
        threading.Thread(target=_hash_without_end, daemon=True).start()


async def flood_log(ctx: Context) -> None:
    until = time.monotonic() + BURST_S
    while time.monotonic() < until:
        ctx.log.info("noise %s", "x" * 1_000)


async def flood_stdout(ctx: Context) -> None:
    until = time.monotonic() + BURST_S
    while time.monotonic() < until:
        os.write(1, b"noise\n" * 100)


async def flood_frames(ctx: Context) -> None:
    """At a pace that the link allows for ever."""
    import gc  # an attacker's import

    link = next(found for found in gc.get_objects() if isinstance(found, zmq.Socket) and not found.closed)
    for _ in range(900):
        link.send(b'{"type":"pong","nonce":1}')


async def flood_denials(ctx: Context) -> None:
    libc = ctypes.CDLL(None)
    for _ in range(2_000):
        libc.setuid(0)


async def leak(ctx: Context) -> None:
    """Until there is no more: then the next call begins anew."""
    hoard = []
    while True:
        hoard.append(bytearray(b"z" * (1 << 22)))


async def stall(ctx: Context) -> None:
    """Whatever comes fills the queue."""
    await asyncio.sleep(600)


async def write_state(ctx: Context) -> None:
    """One commit after the other, in all calls at once."""
    for number in range(1_000):
        await ctx.state.compare_and_set(f"{ctx.call.id}", None if number == 0 else number - 1, number)


async def fail(ctx: Context) -> None:
    raise RuntimeError("x" * 10_000)


def _hash_without_end() -> None:
    import hashlib

    block = b"x" * (1 << 20)
    while True:
        hashlib.sha256(block)


DEEDS: dict[str, Callable[[Context], Awaitable[None]]] = {
    deed.__name__: deed
    for deed in (
        crash, hang, compute, flood_log, flood_stdout, flood_frames, flood_denials, leak, stall, write_state, fail,
    )
}  # fmt: skip
