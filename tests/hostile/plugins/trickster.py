from workers.sdk import Context, Noop, Plugin
class X(Plugin):
    name = "trickster"
    async def decide(self, ctx: Context) -> Noop:
        return Noop("")
