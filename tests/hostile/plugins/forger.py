"""A hostile plugin: floods, hoards and forges, as its call's payload says."""

import contextlib
import ctypes
import gc
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from workers.sdk import Context, Noop, Plugin


class Anarchist(Plugin):
    """`do` names one of the functions below."""

    name = "forger"

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
        libc.setuid(0)


def hoard_memory(ctx: Context, asked: dict[str, Any]) -> None:
    hoard = []
    while True:
        block = bytearray(1 << 24)
        block[::4_096] = b"z" * len(block[::4_096])
        hoard.append(block)


def hoard_memory_in_c(ctx: Context, asked: dict[str, Any]) -> None:
    """Where no MemoryError is raised."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        block = libc.malloc(ctypes.c_size_t(1 << 24))
        ctypes.memset(block, 1, 1 << 24)  # a null pointer ends this process, and nothing else


def hoard_threads(ctx: Context, asked: dict[str, Any]) -> None:
    while True:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def hoard_descriptors(ctx: Context, asked: dict[str, Any]) -> None:
    hoard = []
    while True:
        hoard.append(os.open("/dev/null", os.O_RDONLY))


# --- forgeries, through the worker's own socket -----------------------------------------------------------------------


def _link() -> "zmq.Socket[bytes]":
    """Plugin code shares its process with the worker loop: the garbage collector finds everything."""
    return next(found for found in gc.get_objects() if isinstance(found, zmq.Socket) and not found.closed)


def _decision(call_id: int, attempt: int = 1, reason: str = "forged") -> bytes:
    outcome = f'{{"kind":"noop","reason":"{reason}"}}'
    return f'{{"type":"decision","call_id":{call_id},"attempt":{attempt},"outcome":{outcome}}}'.encode()


def answer_a_call_of_somebody_else(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(_decision(asked["call_id"]))


def answer_twice(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(_decision(ctx.call.id, reason="first"))
    _link().send(_decision(ctx.call.id, reason="second"))


def answer_for_a_later_attempt(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(_decision(ctx.call.id, attempt=2))


def send_a_giant_frame(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(b"[" * ((1 << 20) + 1))
    time.sleep(0.2)  # let the I/O thread work, then answer as if nothing had happened


def send_garbage(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(b"\x80\x04\x95garbage, or a pickle")


def send_several_frames(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send_multipart([_decision(ctx.call.id), b"more"])


def write_parts_without_end(ctx: Context, asked: dict[str, Any]) -> None:
    """Past ZeroMQ, onto its connection: a message whose last part never comes. Ends when the supervisor has hung up."""
    part = b"\x03" + (1 << 16).to_bytes(8) + b"x" * (1 << 16)
    sockets = []
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                sockets.append(fd)
    while sockets:
        for fd in list(sockets):
            rest = part
            while rest:
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    continue
                except OSError:
                    sockets.remove(fd)
                    break


def send_a_second_hello(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(
        b'{"type":"hello","version":2,"generation":1,"plugin":"anarchist","vault":"","triggers":[],"reads":[],'
        b'"digest":"sha256:' + b"0" * 64 + b'"}'
    )


def send_an_unknown_field(ctx: Context, asked: dict[str, Any]) -> None:
    _link().send(b'{"type":"pong","nonce":1,"principal":"root"}')


def ask_for_state_without_end(ctx: Context, asked: dict[str, Any]) -> None:
    for number in range(1, 5_000):
        _link().send(b'{"type":"state_get","request_id":%d,"key":"k"}' % number)


def _nested(item: bytes, *lengths: int) -> bytes:
    for length in lengths:
        item = b"[" + b",".join([item] * length) + b"]"
    return item


def _costly_frame(kind: str) -> bytes:
    """As large as a frame may be."""
    start = b'{"type":"decision","call_id":1,"attempt":1,"outcome":{"kind":"act","actions":['
    match kind:
        case "integers":
            return start + b'{"name":"a","args":{"x":' + _nested(b"1", 256, 256, 7) + b"}}]}}"
        case "actions":
            return start + b",".join([b'{"name":"a"}'] * 80_000) + b"]}}"
        case "pong":
            return b'{"type":"pong","nonce":1}'.ljust(1 << 20)
        case _:
            return b'{"type":"log","level":"info","message":"flood"}'.ljust(1 << 20)


def flood_with_frames(ctx: Context, asked: dict[str, Any]) -> None:
    frame = _costly_frame(asked["kind"])
    link = _link()
    for _ in range(asked["frames"]):
        link.send(frame, copy=False)  # or the frames that wait would not fit into our memory limit


def remember(ctx: Context, asked: dict[str, Any]) -> None:
    """For the control of the memory scan."""
    sys.modules["remembered"] = bytes.fromhex(asked["hex"])  # type: ignore[assignment]


DEEDS: dict[str, Callable[[Context, dict[str, Any]], None]] = {
    deed.__name__: deed
    for deed in (
        flood_the_log, flood_stdout, flood_with_denials, hoard_memory, hoard_memory_in_c, hoard_threads,
        hoard_descriptors, answer_a_call_of_somebody_else, answer_twice, answer_for_a_later_attempt,
        send_a_giant_frame, send_garbage, send_several_frames, send_a_second_hello, send_an_unknown_field,
        ask_for_state_without_end, flood_with_frames, write_parts_without_end, remember,
    )
}  # fmt: skip
