"""A follower for the demo: an indexer announces trades with pg_notify, and it bets with the flow."""

from workers.sdk import Action, Context, Cron, Event, Noop, Plugin, TriggerKind

STAKE_WEI = 5 * 10**14


class FlowFollower(Plugin):
    """Acts on large trades only, and never twice on the same one."""

    name = "flow-follower"
    vault = "demo"
    triggers = [Event(topic="trades"), Cron(every_seconds=5)]
    reads = ["spot"]

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """Follow a large trade; on a tick, say how long the market has been silent."""
        if ctx.call.trigger is TriggerKind.CRON:
            return Noop(f"last trade seen: {await ctx.state.get('last', 'none')}")
        trade = ctx.call.json()
        ctx.state.put("last", trade["id"])
        if trade["size"] < ctx.params["min_size"]:
            return Noop(f"trade {trade['id']} of {trade['size']} is below {ctx.params['min_size']}")
        # Two notifications of one trade may run at once: only one of them gets the claim. A call that is decided
        # again, because its worker died, finds its own.
        claim = f"claim:{trade['id']}"
        if not await ctx.state.compare_and_set(claim, None, ctx.call.id) and await ctx.state.get(claim) != ctx.call.id:
            return Noop(f"trade {trade['id']} was followed already")
        return [Action("mint_binary", {"strike": int(ctx.reads["spot"]), "above": trade["side"] == "buy"}, STAKE_WEI)]
