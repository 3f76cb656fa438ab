"""A plugin that takes half a second to be imported: whoever wants to meet a worker before its Hello has the time."""

import time

from workers.sdk import Context, Noop, Plugin

time.sleep(0.5)


class SlowStarter(Plugin):
    """Does nothing."""

    name = "slow_starter"

    async def decide(self, ctx: Context) -> Noop:
        """Nothing."""
        return Noop("started slowly")
