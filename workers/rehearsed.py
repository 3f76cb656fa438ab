"""The plugin that the zygote imports to warm up (`workers.inherited`). It never runs as one."""

from workers.sdk import Context, Cron, Noop, Plugin


class Rehearsed(Plugin):
    """As small as a plugin can be."""

    name = "rehearsed"
    vault = "none"
    triggers = (Cron(every_seconds=1),)
    reads = ("none",)

    async def decide(self, ctx: Context) -> Noop:
        """Never called."""
        return Noop("a rehearsal")
