"""A hostile plugin for the demo: tries to read the key and reach the network, asks for too much, and crashes."""

import os
import socket
import subprocess
from collections.abc import Callable

from workers.sdk import Action, Context, Cron, Noop, Plugin


class Intruder(Plugin):
    """Each call tries the next thing that a plugin must not be able to do."""

    name = "intruder"
    vault = "demo"
    triggers = [Cron(every_seconds=3)]

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        """One attempt a call; what the sandbox lets through would be in the ledger for all to see."""
        attempts: list[tuple[str, Callable[[], object]]] = [
            ("read the keystore", lambda: open(str(ctx.params["keystore"])).read()),  # noqa: PTH123, SIM115
            ("open a TCP socket", lambda: socket.create_connection(("127.0.0.1", int(str(ctx.params["port"]))), 1)),
            ("start a shell", lambda: subprocess.run(["/bin/sh", "-c", "id"], check=True)),
            ("look at other processes", lambda: os.listdir("/proc")),  # noqa: PTH208
        ]
        turn = int(await ctx.state.get("turn", 0))
        ctx.state.put("turn", turn + 1)
        if turn < len(attempts):
            what, attempt = attempts[turn]
            try:
                attempt()
            except OSError as error:
                return Noop(f"could not {what}: {error}")
            return Noop(f"COULD {what}")
        if turn == len(attempts):
            return [Action("withdraw", {"to": "0x" + "66" * 20, "amount": 10**18})]
        if turn == len(attempts) + 1:
            return [Action("mint_binary", {"strike": 1, "above": True}, 10**20)]
        await ctx.state.compare_and_set("turn", turn, turn + 1)
        os.abort()
