"""A hostile plugin: sends frames of its own through the worker's socket, as its call's payload says."""

import contextlib
import gc
import os
import stat
import time
from collections.abc import Callable
from typing import Any

import zmq

from workers.sdk import Context, Noop, Plugin

HUGE = 1 << 20
UNTRUE = "sha256:" + "0" * 64


class Forger(Plugin):
    """`do` names one of `DEEDS`, or `forge`, with `frame` one of `FRAMES`."""

    name = "forger"

    async def decide(self, ctx: Context) -> Noop:
        """Do it, and answer if there is still somebody to answer."""
        asked = ctx.call.json()
        if asked["do"] == "forge":
            for frame in FRAMES[asked["frame"]](asked.get("call_id") or ctx.call.id):
                link().send(frame)
        else:
            DEEDS[asked["do"]](ctx, asked)
        return Noop("did it")


def link() -> "zmq.Socket[bytes]":
    """Plugin code shares its process with the worker loop: the garbage collector finds everything."""
    return next(found for found in gc.get_objects() if isinstance(found, zmq.Socket) and not found.closed)


# --- frames: what is to be sent for a call --------------------------------------------------------------------------


def decision(call_id: object, attempt: object = 1, outcome: str = '{"kind":"noop","reason":"forged"}') -> bytes:
    """An answer, as JSON text that nobody has checked."""
    return f'{{"type":"decision","call_id":{call_id},"attempt":{attempt},"outcome":{outcome}}}'.encode()


def _act(argument: str = "1", value_wei: str = "0") -> str:
    return f'{{"kind":"act","actions":[{{"name":"a","args":{{"x":{argument}}},"value_wei":{value_wei}}}]}}'


def _hello(*, version: int = 3) -> bytes:
    return (
        f'{{"type":"hello","version":{version},"generation":1,"plugin":"forger","vault":"","triggers":[],"reads":[],'
        f'"digest":"{UNTRUE}"}}'
    ).encode()


def _nested(item: bytes, *lengths: int) -> bytes:
    for length in lengths:
        item = b"[" + b",".join([item] * length) + b"]"
    return item


FRAMES: dict[str, Callable[[int], list[bytes]]] = {
    # whose answer
    "an_invented_call": lambda _: [decision(10**9)],
    "call_zero": lambda _: [decision(0)],
    "a_negative_call": lambda _: [decision(-1)],
    "a_call_beyond_64_bits": lambda _: [decision(1 << 63)],
    "a_later_attempt": lambda call_id: [decision(call_id, 2)],
    "two_answers": lambda call_id: [decision(call_id, outcome=f'{{"kind":"noop","reason":"{n}"}}') for n in "12"],
    # what kind of thing
    "garbage": lambda _: [b"\x80\x04\x95garbage, or a pickle"],
    "a_boolean_for_a_number": lambda _: [decision("true")],
    "a_text_for_a_number": lambda call_id: [decision(f'"{call_id}"')],
    "a_fraction_for_a_number": lambda call_id: [decision(f"{call_id}.5")],
    "an_object_for_a_list": lambda call_id: [decision(call_id, outcome='{"kind":"act","actions":{"name":"a"}}')],
    "a_list_for_an_object": lambda call_id: [decision(call_id, outcome='["noop"]')],
    "a_boolean_for_an_amount": lambda call_id: [decision(call_id, outcome=_act(value_wei="true"))],
    "not_a_number": lambda call_id: [decision(call_id, outcome=_act("NaN"))],
    "infinity": lambda call_id: [decision(call_id, outcome=_act("-Infinity"))],
    "a_number_beyond_floats": lambda call_id: [decision(call_id, outcome=_act("1e400"))],
    "a_number_with_an_exponent": lambda call_id: [decision(call_id, outcome=_act(value_wei="1e3"))],
    "half_a_character": lambda call_id: [decision(call_id, outcome='{"kind":"noop","reason":"\\ud800"}')],
    "half_a_character_raw": lambda call_id: [decision(call_id).replace(b"forged", b"\xed\xa0\x80")],
    "an_unknown_field": lambda _: [b'{"type":"pong","nonce":1,"principal":"root"}'],
    "an_unknown_message": lambda _: [b'{"type":"sign","hash":"0x00"}'],
    "a_message_of_the_other_side": lambda _: [b'{"type":"stop","grace_ms":0}'],
    "a_second_hello": lambda _: [_hello()],
    "a_hello_of_another_version": lambda _: [_hello(version=1)],
    # how much
    "a_deep_frame": lambda call_id: [decision(call_id, outcome=_act("[" * 100_000 + "]" * 100_000))],
    "a_bomb_of_lists": lambda call_id: [decision(call_id, outcome=_act(_nested(b"1", 250, 250, 7).decode()))],
    "a_bomb_of_nothing": lambda call_id: [decision(call_id, outcome=_act(_nested(b"[]", 250, 250).decode()))],
    "a_bomb_of_actions": lambda call_id: [
        decision(call_id, outcome=f'{{"kind":"act","actions":[{",".join(["{}"] * 100_000)}]}}')
    ],
    "a_million_state_writes": lambda call_id: [
        decision(call_id)[:-1] + b',"state_writes":[' + b",".join([b'{"kind":"delete","key":"k"}'] * 37_000) + b"]}"
    ],
    "state_requests_without_end": lambda _: [
        b'{"type":"state_get","request_id":%d,"key":"k"}' % number for number in range(1, 3_000)
    ],
}


# --- deeds -----------------------------------------------------------------------------------------------------------


def send_several_frames(ctx: Context, asked: dict[str, Any]) -> None:
    link().send_multipart([decision(ctx.call.id), b"more"])


def send_a_giant_frame(ctx: Context, asked: dict[str, Any]) -> None:
    link().send(b"[" * (HUGE + 1))
    time.sleep(0.2)  # let the I/O thread work, then answer as if nothing had happened


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


def send_keys_twice(ctx: Context, asked: dict[str, Any]) -> None:
    """Two readers of one text must not see two answers in it."""
    link().send(keys_twice(ctx.call.id))
    time.sleep(0.2)


def keys_twice(call_id: int) -> bytes:
    """The first call id is another one's, and so is the first reason."""
    twice = '{"kind":"noop","reason":"first","reason":"second"}'
    return decision(f'{call_id + 1},"call_id":{call_id}', outcome=twice)


def flood_with_frames(ctx: Context, asked: dict[str, Any]) -> None:
    frame = costly_frame(asked["kind"])
    to_all = link()
    for _ in range(asked["frames"]):
        to_all.send(frame, copy=False)  # or the frames that wait would not fit into our memory limit


def costly_frame(kind: str) -> bytes:
    """As large as a frame may be."""
    start = b'{"type":"decision","call_id":1,"attempt":1,"outcome":{"kind":"act","actions":['
    match kind:
        case "integers":
            return start + b'{"name":"a","args":{"x":' + _nested(b"1", 256, 256, 7) + b"}}]}}"
        case "actions":
            return start + b",".join([b'{"name":"a"}'] * 80_000) + b"]}}"
        case "pong":
            return b'{"type":"pong","nonce":1}'.ljust(HUGE)
        case _:
            return b'{"type":"log","level":"info","message":"flood"}'.ljust(HUGE)


DEEDS: dict[str, Callable[[Context, dict[str, Any]], None]] = {
    deed.__name__: deed
    for deed in (
        send_several_frames, send_a_giant_frame, write_parts_without_end, send_keys_twice, flood_with_frames
    )
}  # fmt: skip
