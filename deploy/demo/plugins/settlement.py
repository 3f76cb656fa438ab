"""A keeper for the demo: settles each round when it is over."""

from workers.sdk import Action, Context, Noop, Plugin
from workers.sdk.triggers import Block


class Settlement(Plugin):
    """Called by blocks: a round ends with one, and no log tells of it."""

    name = "settlement"
    triggers = [Block(every=2)]
    reads = ["round", "closes_at"]

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """Settle the running round by its number, and ask for it once: another call may come before it is mined."""
        current, closes_at = int(ctx.reads["round"]), int(ctx.reads["closes_at"])
        if ctx.block.number < closes_at:
            return Noop(f"round {current} is open for {closes_at - ctx.block.number} blocks more")
        asked, asked_at = await ctx.state.get("asked", [0, 0])
        if asked == current and ctx.block.number - asked_at < ctx.params["patience_blocks"]:
            return Noop(f"round {current} was asked for at block {asked_at}")
        ctx.state.put("asked", [current, ctx.block.number])
        return [Action("settle", {"round": current})]
