"""A market maker for the demo: a bet on the direction and a range around the price, renewed when it moves."""

from workers.sdk import Action, Context, Cron, Noop, Plugin

STAKE_WEI = 10**15


class RangeMaker(Plugin):
    """Two Actions per decision: they become one transaction, or none."""

    name = "range-maker"
    vault = "demo"
    triggers = [Cron(every_seconds=2)]
    reads = ["spot", "positions"]

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """Renew the positions when the price has left the last band."""
        spot, width = int(ctx.reads["spot"]), int(ctx.params["width"])
        centre = await ctx.state.get("centre")
        if centre is not None and abs(spot - centre) < width:
            return Noop(f"spot {spot} is within {width} of {centre}")
        ctx.state.put("centre", spot)
        ctx.log.info("price %d left the band around %s", spot, centre)
        return [
            Action("mint_binary", {"strike": spot, "above": centre is None or spot > centre}, STAKE_WEI),
            Action("mint_range", {"lower": spot - width, "upper": spot + width}, 2 * STAKE_WEI),
        ]
