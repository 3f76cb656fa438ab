from workers.sdk import Context, Noop, Plugin
class X(Plugin):
    name = "sloth"
    async def decide(self, ctx: Context) -> Noop:
        return Noop("")
