"""Keeps what the vaults of one chain allow in step with the chain: one batch at most for each new block.

Only a mirror: what could not be read, or is older than a few blocks, denies nothing, and the simulation tells. A vault
whose views do not answer is not mirrored at all. Built by the app, run by the chain's desk, asked by the executor.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from runnerd.chain.errors import AbiError, ChainError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.types import Block
from runnerd.chain.vault_caps import DAY_S, CapsRequest, VaultCaps
from runnerd.log import fields
from runnerd.network import Network
from runnerd.vaults.catalogue import Catalogue

logger = logging.getLogger("runnerd.executor")

MAX_LAG_BLOCKS: Final = 5
STALE_POLLS: Final = 5
"""A node that has not named its head for so many polls says nothing of its vaults either."""
FRESH_S: Final = 0.25
MAX_BATCH: Final = 100
MAX_IDS: Final = 64
"""Intents on the way that are asked for by id: more than a wallet has in flight. Those beyond count as not executed."""

Ids = Callable[[], Mapping[int, bytes]]
"""Intent ids, by call, of a vault's open intents that send value."""


class CapsMirror:
    """`vaults` are address, catalogue and open ids of each vault with the views of the reference vault, by name."""

    def __init__(self, network: Network, vaults: Mapping[str, tuple[str, Catalogue, Ids]]) -> None:
        self._network = network
        self._vaults = dict(vaults)
        self._functions = {
            name: tuple(
                {(entry.contract, entry.function.selector): entry for entry in catalogue.actions.values()}.values()
            )
            for name, (_, catalogue, _) in self._vaults.items()
        }
        self._caps: dict[str, VaultCaps] = {}

    def of(self, vault: str, now: datetime) -> VaultCaps | None:
        """What the vault allows; None when it is not mirrored, or was not read lately.

        Between midnight UTC and the first block after it nothing is spent of the new day, whatever the last block says.
        """
        caps = self._caps.get(vault)
        latest = self._network.head.recent(self._network.config.poll_s * STALE_POLLS)
        if caps is None or latest is None or latest.number - caps.block_number > MAX_LAG_BLOCKS:
            return None
        return caps if int(now.timestamp()) // DAY_S <= caps.day else replace(caps, spent_today_wei=0)

    async def run(self) -> None:
        """Until cancelled, or until no vault is left: read at every new block."""
        head, poll_s = self._network.head, self._network.config.poll_s
        seen = ""
        while self._vaults:
            block = head.latest
            if block is None or block.hash == seen:
                await head.wait_beyond(block.number if block is not None else -1, poll_s)
                continue
            try:
                seen = (await self._network.at_newest_block(self._look, FRESH_S)).hash
            except ChainError as error:
                logger.warning("vault caps cannot be read: %s", error, extra=fields("caps_unavailable"))
                await asyncio.sleep(poll_s)
            except Exception:  # only a mirror: without it the simulation tells, a block later
                logger.exception("vault caps cannot be read", extra=fields("caps_failed"))
                await asyncio.sleep(poll_s)

    async def _look(self, node: NodeBatches, block: Block) -> Block:
        asked = {
            name: CapsRequest(
                address=address,
                functions=tuple((entry.contract, entry.function) for entry in self._functions[name]),
                intent_ids=dict([*ids().items()][:MAX_IDS]),
            )
            for name, (address, _, ids) in self._vaults.items()
        }
        requests = {name: one.requests(block) for name, one in asked.items()}
        flat = [request for group in requests.values() for request in group]
        answers: list[JsonValue | RpcRefused] = []
        for start in range(0, len(flat), MAX_BATCH):
            answers += await node.batch(flat[start : start + MAX_BATCH])
        for name, one in asked.items():
            mine, answers = answers[: len(requests[name])], answers[len(requests[name]) :]
            self._take(name, one, block, mine)
        return block

    def _take(self, name: str, asked: CapsRequest, block: Block, answers: Sequence[JsonValue | RpcRefused]) -> None:
        try:
            self._caps[name] = asked.decode(block, answers)
        except AbiError as error:
            logger.warning(
                "vault %s is not mirrored, it has no such views: %s", name, error,
                extra=fields("caps_not_mirrored", vault=name),
            )  # fmt: skip
            del self._vaults[name]
            self._caps.pop(name, None)
