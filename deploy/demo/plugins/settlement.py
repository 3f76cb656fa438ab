"""A keeper for the demo: settles each round when it is over."""

from workers.sdk import Action, Context, Noop, Plugin
from workers.sdk.triggers import Block


class Settlement(Plugin):
    """Called by blocks: a round ends with one, and no log tells of it. After a downtime the newest is enough."""

    name = "settlement"
    triggers = [Block(every=2, overlap="coalesce")]
    reads = ["round", "closes_at"]

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """Settle the running round by its number, and ask for it once: another call may come before it is mined."""
        current, closes_at = int(ctx.reads["round"]), int(ctx.reads["closes_at"])
        if ctx.block.number < closes_at:
            return Noop(f"round {current} is open for {closes_at - ctx.block.number} blocks more")
        asked = await ctx.state.get("asked")
        if asked is not None and asked[0] == current and ctx.block.number - asked[1] < ctx.params["patience_blocks"]:
            return Noop(f"round {current} was asked for at block {asked[1]}")
        # Another call may be here at the same time: only one of them gets the claim. A `put` would be too late.
        if not await ctx.state.compare_and_set("asked", asked, [current, ctx.block.number]):
            return Noop(f"another call asks for round {current}")
        return [Action("settle", {"round": current})]
