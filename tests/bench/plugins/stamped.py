"""Answers each call with the moment in which it was entered: no log, no database, nothing that takes time."""

import time

from workers.sdk import Context, Noop, Plugin


class Stamped(Plugin):
    """The moment is of a clock that all processes of the machine share (CLOCK_MONOTONIC), in nanoseconds."""

    name = "stamped"

    async def decide(self, ctx: Context) -> Noop:
        """First of all the time."""
        return Noop(str(time.monotonic_ns()))
