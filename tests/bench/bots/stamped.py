"""A Silverback bot that notes when its handlers are entered.

Run by `tests.bench.silverback` in a virtual environment of its own: nothing of runnerd is there.
"""

import os
import time
from typing import Any

from ape import Contract, chain  # type: ignore[import-not-found]  # of that environment
from silverback import SilverbackBot  # type: ignore[import-not-found]  # the same

OUT = os.open(os.environ["BENCH_OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
KINDS = os.environ["BENCH_KINDS"].split(",")
WHO = int(os.environ["BENCH_WHO"])
GAS_LIMIT = 100_000

bot = SilverbackBot()
poke = Contract(os.environ["BENCH_STIMULUS"], abi=os.environ["BENCH_ABI"])
target = Contract(os.environ["BENCH_REACTION"], abi=os.environ["BENCH_ABI"])


def note(kind: str, number: int, at: int) -> None:
    """One line, in one write."""
    os.write(OUT, f"{kind} {number} {at}\n".encode())


async def on_block(block: Any) -> None:
    """As early as it can be told."""
    at = time.monotonic_ns()
    note("block", block.number, at)


async def on_log(log: Any) -> None:
    """As early as it can be told."""
    at = time.monotonic_ns()
    note("log", log.id, at)


async def react(log: Any) -> None:
    """One transaction, with all that Silverback's own latency test does to be fast: no estimate, no waiting."""
    target.react(
        log.id,
        WHO,
        sender=bot.signer,
        nonce=bot.nonce,
        required_confirmations=0,
        gas_limit=GAS_LIMIT,
        max_fee="100 gwei",
        max_priority_fee="1 gwei",
    )


if "block" in KINDS:
    bot.on_(chain.blocks)(on_block)
if "log" in KINDS:
    bot.on_(poke.Poked)(on_log)
if "react" in KINDS:
    bot.on_(poke.Poked)(react)
