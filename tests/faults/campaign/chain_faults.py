"""Faults of the chain itself, done to the node behind every proxy: what falls out, what finds no room, what is dear."""

import time
from typing import Final

from tests.faults.campaign.plan import Fault
from tests.faults.campaign.world import BLOCK_TIME_S, GAS_LIMIT, World

NO_ROOM: Final = 30_000
"""Gas of a block in which no call to the vault fits."""
GWEI: Final = 10**9
HIGHEST_BASE_FEE: Final = 40 * GWEI
POLL_S: Final = 0.02


def drop_one(world: World, fault: Fault) -> bool:
    """The node forgets one transaction of the operator that is not in a block yet."""
    waiting = _await_waiting(world)
    if waiting:
        world.node.rpc("anvil_dropTransaction", fault.dice.choice(waiting))
    return bool(waiting)


def drop_all(world: World) -> bool:
    """The node forgets all that is not in a block yet."""
    waiting = _await_waiting(world)
    world.node.rpc("anvil_dropAllTransactions")
    return bool(waiting)


def _await_waiting(world: World) -> list[str]:
    """`waiting_hashes`, as soon as there are some: at most for a few blocks."""
    deadline = time.monotonic() + 3 * BLOCK_TIME_S
    while not (waiting := waiting_hashes(world)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return waiting


def waiting_hashes(world: World) -> list[str]:
    """The operator's transactions in the node's pool, by nonce; with those behind a gap."""
    pool = world.node.rpc("txpool_content")
    operator = world.venue.operator.lower()
    found = [
        (int(nonce), tx["hash"])
        for part in ("pending", "queued")
        for sender, by_nonce in pool[part].items()
        if sender.lower() == operator
        for nonce, tx in by_nonce.items()
    ]
    return [tx_hash for _, tx_hash in sorted(found)]


def reorg(world: World, depth: int) -> bool:
    """The last blocks are replaced by empty ones; what was in them is in no block and no pool."""
    with world.miner.still():
        world.node.rpc("anvil_reorg", depth, [])
    return True


def fill_blocks(world: World, blocks: int) -> bool:
    """No transaction finds room for some blocks."""
    world.node.rpc("evm_setBlockGasLimit", hex(NO_ROOM))
    try:
        _wait_blocks(world, blocks)
    finally:
        world.node.rpc("evm_setBlockGasLimit", hex(GAS_LIMIT))
    return True


def jump_base_fee(world: World, blocks: int) -> bool:
    """Ten times the price of gas (from at least one gwei) for some blocks, and back."""
    base = int(world.node.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    high = min(10 * max(base, GWEI), HIGHEST_BASE_FEE)
    until = world.head() + blocks
    deadline = time.monotonic() + (blocks + 3) * BLOCK_TIME_S * 2
    while world.head() < until and time.monotonic() < deadline:
        world.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(high))
        _wait_blocks(world, 1)
    world.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(max(high // 10, GWEI)))
    return True


def calm(world: World) -> None:
    """Blocks with room, at a low price."""
    world.node.rpc("evm_setBlockGasLimit", hex(GAS_LIMIT))
    world.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))


def _wait_blocks(world: World, blocks: int) -> None:
    until = world.head() + blocks
    deadline = time.monotonic() + (blocks + 3) * BLOCK_TIME_S * 3
    while world.head() < until and time.monotonic() < deadline:
        time.sleep(POLL_S)
