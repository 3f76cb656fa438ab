"""A hostile plugin: turns Python against the worker around it, as its call's payload says."""

import asyncio
import ctypes
import gc
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from workers.sdk import Action, Context, Noop, Plugin


class Trickster(Plugin):
    """`do` names one of the functions below."""

    name = "trickster"

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """Do it, and answer if there is still somebody to answer."""
        asked = ctx.call.json()
        done = DEEDS[asked["do"]](asked)
        await asyncio.sleep(0)
        return done if isinstance(done, list) else Noop(str(done or "did it"))


# --- leaving, and taking others along --------------------------------------------------------------------------------


def raise_a_base_exception(asked: dict[str, Any]) -> None:
    raise BaseException("mine")  # noqa: TRY002  # that is the trick


def exit_the_program(asked: dict[str, Any]) -> None:
    raise SystemExit(0)


def interrupt_from_the_keyboard(asked: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def raise_what_cannot_be_shown(asked: dict[str, Any]) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise self

    raise Mute


def stop_the_loop(asked: dict[str, Any]) -> None:
    asyncio.get_running_loop().stop()


def cancel_every_task(asked: dict[str, Any]) -> None:
    for task in asyncio.all_tasks():
        task.cancel()


def exit_at_once(asked: dict[str, Any]) -> None:
    os._exit(0)


# --- breaking the interpreter ----------------------------------------------------------------------------------------


def forget_every_module(asked: dict[str, Any]) -> None:
    sys.modules.clear()


def trace_everything(asked: dict[str, Any]) -> None:
    """Every function of the worker raises from now on."""

    def refuse(frame: FrameType, event: str, argument: object) -> None:
        raise RuntimeError("no further")

    threading.settrace(refuse)
    sys.settrace(refuse)


def recurse_without_end(asked: dict[str, Any]) -> None:
    sys.setrecursionlimit(1 << 30)

    def fall(depth: object) -> object:
        return [*map(fall, [depth])]

    fall(None)


def overwrite_none(asked: dict[str, Any]) -> None:
    ctypes.memset(id(None), 0xFF, 16)
    str(None)


def close_every_descriptor(asked: dict[str, Any]) -> None:
    os.closerange(0, 256)


# --- lying about what it is ------------------------------------------------------------------------------------------


def patch_the_sdk(asked: dict[str, Any]) -> list[Action]:
    """What the worker checks for its author's sake is switched off; the answer is no answer."""
    loop = sys.modules["workers.loop"]
    loop.decode_from_worker = lambda frame: None  # type: ignore[attr-defined]
    action = Action("mint_binary")
    msgspec.structs.force_setattr(action, "name", "../../transfer")
    return [action]


def patch_the_codec(asked: dict[str, Any]) -> None:
    """Every frame says that it is an answer to somebody else."""
    loop = sys.modules["workers.loop"]
    loop.encode = lambda message: asked["frame"].encode()  # type: ignore[attr-defined]
    loop.decode_from_worker = lambda frame: None  # type: ignore[attr-defined]


def find_by_digest(asked: dict[str, Any]) -> str:
    """Which of the digests are of a text that the garbage collector can reach, in any frame, class or module."""
    gc.unfreeze()
    wanted, found = set(asked["digests"]), set()
    seen: set[int] = set()
    waiting: list[object] = [*gc.get_objects(), *sys._current_frames().values()]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, str | bytes):
            text = item.encode(errors="replace") if isinstance(item, str) else item
            found |= {hashlib.sha256(text).hexdigest()} & wanted
        else:
            waiting.extend(gc.get_referents(item))
    return "found: " + ",".join(sorted(found))


DEEDS: dict[str, Callable[[dict[str, Any]], object]] = {
    deed.__name__: deed
    for deed in (
        raise_a_base_exception, exit_the_program, interrupt_from_the_keyboard, raise_what_cannot_be_shown,
        stop_the_loop, cancel_every_task, exit_at_once, forget_every_module, trace_everything, recurse_without_end,
        overwrite_none, close_every_descriptor, patch_the_sdk, patch_the_codec, find_by_digest,
    )
}  # fmt: skip
