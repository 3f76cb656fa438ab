"""Answers each event with one Action."""

from workers.sdk import Action, Context, Event, Plugin


class OneAction(Plugin):
    """The shortest way from a trigger to a transaction."""

    name = "one-action"
    triggers = [Event(topic="bench")]
    reads = ["spot"]

    async def decide(self, ctx: Context) -> list[Action]:
        """One mint."""
        return [Action("mint_binary", {"strike": int(ctx.reads["spot"]), "above": True}, 10**9)]
