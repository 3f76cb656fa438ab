"""A transaction whose fees are too low for every block: after how many blocks do valid replacements reach the node?

The base fee is kept above whatever was signed last, so that nothing of it is ever included. Default configuration.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import uvloop

from runnerd.config.model import ChainConfig
from tests.bench.figures import Figure
from tests.support.anvil import start_anvil
from tests.support.executor_bench import Ground, Process, make_ground
from tests.support.postgres import PostgresServer, host_postgres
from tests.support.rpc_proxy import rpc_proxy
from tests.support.short_dir import make_short_dir

MAX_BLOCKS = 40
PATIENCE_S = 0.25
"""After each block, for a replacement to be made: some 20 ms when it is made at all."""
TARGETS = {1: 3, 5: 15}
ATTEMPTS = "select hash, max_fee_per_gas_wei as fee, max_priority_fee_wei as tip, accepted_at from attempts"


def measure_stuck() -> Iterator[Figure]:
    """Blocks until the first and the fifth replacement."""
    with (
        start_anvil(prune_history=False) as node,
        rpc_proxy(node.url) as proxy,
        make_short_dir() as directory,
        host_postgres(directory / "data", directory / "run") as (_, report),
    ):
        dsn = PostgresServer(report["dsn"]).create_database(is_migrated=True)
        ground = make_ground(node, proxy, dsn)
        default = ChainConfig(id=31337, rpc=node.url).replace_after_blocks
        ground.is_direct, ground.chain = True, {"replace_after_blocks": default}
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            blocks, attempts = runner.run(_measure(ground))
    is_valid = all(
        10 * after["fee"] >= 11 * before["fee"] and 10 * after["tip"] >= 11 * before["tip"]
        for before, after in pairwise(attempts)
    )
    yield Figure("stuck: both fees of each replacement >= +10 %", str(is_valid), "True", is_valid)
    for number, target in TARGETS.items():
        took = blocks[number - 1] if len(blocks) >= number else None
        name = f"stuck: blocks until replacement {number} is at the node"
        text = f"{took}" if took is not None else f"not within {MAX_BLOCKS}"
        yield Figure(name, text, f"<= {target}", took is not None and took <= target)
    yield Figure("  blocks of all of them", ", ".join(map(str, blocks)))
    yield Figure("  max fee per gas, gwei", ", ".join(f"{attempt['fee'] / 10**9:.1f}" for attempt in attempts))


async def _measure(ground: Ground) -> tuple[list[int], list[dict[str, Any]]]:
    """The block, counted from the signature, at which each replacement was accepted; and all attempts in order."""
    process = Process(ground)
    await process.open()
    process.run()
    call = await process.act()
    await process.until_state(call, "sent")
    blocks: list[int] = []
    attempts = _accepted(ground)
    for block in range(1, MAX_BLOCKS + 1):
        ground.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(int(attempts[-1]["fee"]) + 1))
        await asyncio.to_thread(ground.mine)
        end = time.monotonic() + PATIENCE_S
        known = len(attempts)
        while len(attempts) == known and time.monotonic() < end:
            await asyncio.sleep(0.01)
            attempts = _accepted(ground)
        blocks += [block] * (len(attempts) - 1 - len(blocks))
        if len(blocks) >= max(TARGETS):
            break
    await process.close()
    return blocks, attempts


def _accepted(ground: Ground) -> list[dict[str, Any]]:
    return ground.rows(f"{ATTEMPTS} where accepted_at is not null order by max_fee_per_gas_wei")


if __name__ == "__main__":
    for figure in measure_stuck():
        print(figure, flush=True)
