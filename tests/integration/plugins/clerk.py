"""A plugin of several jobs: each notes what it was called with, and `settle` takes as long as its payload says."""

import asyncio
from typing import Any

from workers.sdk import Context, Noop, Plugin, job

POLL_S = 0.005


class Clerk(Plugin):
    """Runs under several names. `seen:ID` in its state is the call, as it was told of it."""

    name = "clerk"

    async def decide(self, ctx: Context) -> Noop:
        """Note the call."""
        return self._note(ctx)

    @job("settle")
    async def settle(self, ctx: Context) -> Noop:
        """Note the call; with a payload `{"until": KEY}` only after that key is there."""
        payload: dict[str, Any] = ctx.call.json() if ctx.call.payload else {}
        # Nobody rings when another call writes state: looking again is all that a plugin can do.
        while "until" in payload and await ctx.state.get(payload["until"]) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        return self._note(ctx)

    @job("audit")
    async def audit(self, ctx: Context) -> Noop:
        """Note the copy."""
        return self._note(ctx)

    @job("catch")
    async def catch(self, ctx: Context) -> Noop:
        """Note what nobody else has taken; a payload `{"put": KEY}` sets that key."""
        if ctx.call.payload and "put" in ctx.call.json():
            ctx.state.put(ctx.call.json()["put"], True)
        return self._note(ctx)

    def _note(self, ctx: Context) -> Noop:
        return Noop(f"{ctx.call.job}: {ctx.call.origin.id}")
