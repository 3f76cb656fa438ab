"""A plugin that does what its call's payload says: one file for all that the black-box tests want a plugin to do.

A call without a payload (a cron tick) obeys what stands in its state under `instruction`. Runs under several names.
"""

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from workers.sdk import Act, Action, BalanceChange, Context, Noop, Plugin, SharePrice

POLL_S = 0.005


class Puppet(Plugin):
    """See `do_` methods for the instructions; `put` and `delete` may stand beside each of them."""

    name = "puppet"
    reads = ["spot", "positions"]

    async def decide(self, ctx: Context) -> list[Action] | Act | Noop:
        """Obey."""
        instruction: dict[str, Any] = ctx.call.json() if ctx.call.payload else await ctx.state.get("instruction", {})
        for key, value in instruction.get("put", {}).items():
            ctx.state.put(key, value)
        for key in instruction.get("delete", ()):
            ctx.state.delete(key)
        act = getattr(self, f"do_{instruction.get('do', 'noop')}")
        answer: list[Action] | Act | Noop = await act(ctx, instruction)
        return answer

    async def do_noop(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        return Noop(instruction.get("reason", "told to do nothing"))

    async def do_act(self, ctx: Context, instruction: dict[str, Any]) -> list[Action] | Act:
        actions = [Action(name, args, value_wei) for name, args, value_wei in instruction["actions"]]
        if "expect" not in instruction:
            return actions
        return Act(actions, expect=msgspec.convert(instruction["expect"], list[BalanceChange | SharePrice]))

    async def do_raise(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        raise RuntimeError(instruction["text"])

    async def do_say(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        """Write to the three places that end up in the operator's log."""
        ctx.log.info("%s by ctx.log", instruction["text"])
        print(f"{instruction['text']} by print")
        os.write(2, f"{instruction['text']} by stderr\n".encode())
        return Noop("said it")

    async def do_show_context(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        """Put everything that it was given into its state."""
        shown = {name: getattr(ctx, name) for name in ("call", "now", "block", "vault", "reads", "params")}
        ctx.state.put("context", msgspec.to_builtins(shown))
        return Noop("it is in the state")

    async def do_get(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        return Noop(msgspec.json.encode(await ctx.state.get(instruction["key"], "absent")).decode())

    async def do_claim(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        is_mine = await ctx.state.compare_and_set(instruction["key"], None, ctx.call.id)
        return Noop("won" if is_mine else "lost")

    async def do_meet(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        """Take a free seat in the room, and stay until all seats are taken: calls that run one by one never meet."""
        seats = [f"{instruction['room']}:{number}" for number in range(instruction["seats"])]
        for seat in seats:
            if await ctx.state.compare_and_set(seat, None, ctx.call.id):
                break
        # Nobody rings when another call writes state: looking again is all that a plugin can do.
        while any([await ctx.state.get(seat) is None for seat in seats]):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        return Noop("met")

    async def do_wait(self, ctx: Context, instruction: dict[str, Any]) -> list[Action] | Act | Noop:
        """Say in the state that it has begun, wait until the test sets `until`, or for `seconds`; act if `then`."""
        await ctx.state.compare_and_set(f"begun:{ctx.call.id}", None, ctx.call.attempt)
        until = asyncio.get_running_loop().time() + instruction.get("seconds", 60)
        while asyncio.get_running_loop().time() < until:
            if "until" in instruction and await ctx.state.get(instruction["until"]) is not None:
                break
            await asyncio.sleep(POLL_S)
        if "then" in instruction:
            return await self.do_act(ctx, {"actions": instruction["then"]})
        return Noop(f"waited, attempt {ctx.call.attempt}")

    async def do_hang(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        """Block the whole event loop, for the first `attempts` attempts if given; `is_deaf`: to SIGABRT as well."""
        if ctx.call.attempt <= instruction.get("attempts", 1_000):
            if instruction.get("is_deaf"):
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGABRT, signal.SIGTERM})
            hang_in_plugin_code()
        return Noop(f"answered, attempt {ctx.call.attempt}")

    async def do_compute(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        """Use up seconds of the CPU, however long that takes."""
        await ctx.state.compare_and_set(f"begun:{ctx.call.id}", None, ctx.call.attempt)
        until = time.process_time() + instruction["cpu_s"]
        while time.process_time() < until:
            pass
        return Noop(f"computed, attempt {ctx.call.attempt}")

    async def do_die(self, ctx: Context, instruction: dict[str, Any]) -> Noop:
        """End its own process. Only for the first `attempts` attempts, if given."""
        if ctx.call.attempt <= instruction.get("attempts", 1_000):
            WAYS_TO_DIE[instruction.get("how", "abort")]()
        return Noop(f"answered, attempt {ctx.call.attempt}")


def hang_in_plugin_code() -> None:
    """A name to look for in the dumped stacks."""
    time.sleep(600)


WAYS_TO_DIE: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
}
