"""Answers each event with a Noop."""

from workers.sdk import Context, Noop, Plugin


class NoopPlugin(Plugin):
    """The smallest Decision there is."""

    name = "noop"

    async def decide(self, ctx: Context) -> Noop:
        """Nothing."""
        return Noop("nothing to do")
