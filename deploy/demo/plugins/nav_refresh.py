"""A keeper for the demo: publishes a vault's net asset value when it has moved, or has not been told for a while."""

from workers.sdk import Action, Context, Noop, Plugin
from workers.sdk.triggers import Cron


class NavRefresh(Plugin):
    """Called by the market's own logs (configured: they need its address), and by the clock if it is silent."""

    name = "nav-refresh"
    triggers = [Cron(every_seconds=10)]
    reads = ["published_nav", "current_nav", "refreshed_at"]

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """One action at most: a keeper's wallet makes one call per transaction."""
        published, current = int(ctx.reads["published_nav"]), int(ctx.reads["current_nav"])
        moved_wei = abs(current - published)
        age = ctx.block.number - int(ctx.reads["refreshed_at"])
        if moved_wei < ctx.params["min_move_wei"] and age < ctx.params["max_age_blocks"]:
            return Noop(f"the NAV moved {moved_wei} wei, and was told {age} blocks ago")
        # What was asked for may not be on chain yet: the next call must not ask for it again. And calls for a log and
        # for a slot may be here at the same time: only one of them gets the claim.
        asked_at = await ctx.state.get("asked_at")
        if asked_at is not None and ctx.block.number - asked_at < ctx.params["patience_blocks"]:
            return Noop(f"asked for at block {asked_at}")
        if not await ctx.state.compare_and_set("asked_at", asked_at, ctx.block.number):
            return Noop("another call asks for it")
        return [Action("refresh", {})]
