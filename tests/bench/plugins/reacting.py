"""Answers each log of the stimulus with one transaction that names it."""

import json

from workers.sdk import Action, Context, Plugin


class Reacting(Plugin):
    """`who` is the plugin's own number."""

    name = "reacting"

    async def decide(self, ctx: Context) -> list[Action]:
        """The same number, and who it was."""
        args = json.loads(ctx.call.payload)["args"]
        return [Action("react", {"id": int(args["id"]), "who": int(ctx.params["who"])})]
