"""Fires log triggers: one call for each log of an event that one of some contracts wrote, decoded with its fragment.

Near the head logs are asked for by block hash, of a node that has this block. Far behind it, by ranges: as wide as the
node takes.
"""

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.messages import TriggerKind
from protocol.triggers import Log, Trigger
from protocol.values import Value
from runnerd.chain.abi_event import build_filter
from runnerd.chain.address import checksum_address
from runnerd.chain.errors import AbiError, ChainError, RpcMalformed, RpcRefused, RpcUnavailable
from runnerd.chain.jsonrpc import Request
from runnerd.chain.log_entries import LogEntry, decode_entries, in_block, in_range
from runnerd.chain.past import given
from runnerd.chain.types import Block, decode_block
from runnerd.log import fields
from runnerd.network import Network
from runnerd.triggers.chain_calls import Task
from runnerd.triggers.chain_cursor import Found, Place
from runnerd.triggers.chain_follower import ChainFollower
from runnerd.triggers.chain_producer import ChainProducer
from runnerd.triggers.chain_source import MAX_BLOCKS, Finding
from runnerd.triggers.errors import ProducerBroken
from runnerd.triggers.follower import Follower
from runnerd.triggers.producer import Terms
from runnerd.triggers.range_width import RangeWidth

logger = logging.getLogger("runnerd.chain_triggers")

MAX_ARGUMENTS_LENGTH: Final = MAX_PAYLOAD_LENGTH // 2
MAX_RAW: Final = MAX_PAYLOAD_LENGTH // 4
"""Bytes of a log's data that are handed on when they cannot be decoded."""


class LogSource:
    """`ChainSource` of one log trigger."""

    kind = TriggerKind.LOG

    def __init__(self, trigger: Log, network: Network) -> None:
        """Raises AbiError for a fragment, a `where` or an address that cannot be."""
        self._filter = build_filter(trigger.event, trigger.where)
        self._addresses = sorted({address.lower() for address in trigger.addresses})
        self._network = network
        self._width = RangeWidth()

    async def look(self, blocks: Sequence[Block]) -> list[Found[Finding]]:
        """See ChainSource."""
        # EIP-234 lets a node refuse for a block that it does not have, but does not make it: that is asked as well.
        asked = [("eth_getBlockTransactionCountByHash", [block.hash]) for block in blocks]
        logs = [in_block(block.hash, self._addresses, self._filter.topics) for block in blocks]
        answers = await self._network.rpc.batch([*asked, *logs])
        found = []
        for block, count, answer in zip(blocks, answers, answers[len(blocks) :], strict=False):
            if given(count) is None:
                raise RpcUnavailable(f"the node does not have block {block.hash}", method="eth_getLogs")
            entries = decode_entries(given(answer))
            if any(entry.block_hash != block.hash for entry in entries):
                raise RpcMalformed("logs of another block", method="eth_getLogs", field="blockHash")
            found.append(Found(block=block, items=self._findings(entries)))
        return found

    async def sweep(self, after: Place, last: int) -> list[Found[Finding]] | None:
        """See ChainSource: by ranges, in the same round trip with both of their ends, which must be there."""
        while True:
            width = min(self._width.width, last - after.number)
            end = after.number + width
            try:
                begin, logs, ending = await self._network.rpc.batch(
                    [_block(after.number), in_range(after.number + 1, end, self._addresses, self._filter.topics),
                     _block(end)]
                )  # fmt: skip
                entries = decode_entries(given(logs))
            except (RpcRefused, RpcUnavailable) as error:
                if not self._width.refused(width) or isinstance(error, RpcUnavailable):
                    raise  # that may have been the width as well: the next try is narrower
                logger.info(
                    "chain %s: no logs of %d blocks at once: %s", self._network.name, width, error,
                    extra=fields("log_range_refused", chain=self._network.name, blocks=width),
                )  # fmt: skip
                continue
            self._width.answered()
            if decode_block(given(begin)).hash != after.hash:
                return []
            found = await self._by_block(entries)
            last_block = decode_block(given(ending))
            if not found or found[-1].place.number < end:
                found.append(Found(block=last_block))
            return found

    async def _by_block(self, entries: Sequence[LogEntry]) -> list[Found[Finding]]:
        by_hash: dict[str, list[LogEntry]] = {}
        for entry in entries:
            by_hash.setdefault(entry.block_hash, []).append(entry)
        wanted = {block_hash: items for block_hash, its in by_hash.items() if (items := self._findings(its))}
        blocks: list[Block] = []
        hashes = list(wanted)
        for start in range(0, len(hashes), MAX_BLOCKS):
            requests: list[Request] = [
                ("eth_getBlockByHash", [block_hash, False]) for block_hash in hashes[start : start + MAX_BLOCKS]
            ]
            answers = await self._network.rpc.batch(requests)
            blocks += [decode_block(given(answer), "eth_getBlockByHash") for answer in answers]
        if [block.hash for block in blocks] != hashes:
            raise RpcMalformed("other blocks than were asked for", method="eth_getBlockByHash", field="hash")
        return [Found(block=block, items=wanted[block.hash]) for block in blocks]

    def _findings(self, entries: Sequence[LogEntry]) -> list[Finding]:
        return [finding for entry in entries if (finding := self._finding(entry)) is not None]

    def _finding(self, entry: LogEntry) -> Finding | None:
        if entry.address not in self._addresses or not self._filter.is_wanted(entry.topics):
            return None
        arguments: dict[str, Value] | None
        problem: dict[str, Value] = {}
        try:
            arguments = self._filter.arguments(entry.topics, entry.data)
            if arguments is None:
                return None
            if len(msgspec.json.encode(arguments)) > MAX_ARGUMENTS_LENGTH:
                raise AbiError(f"the arguments are longer than {MAX_ARGUMENTS_LENGTH} characters")
        except AbiError as error:
            # The contract's bytes are not as declared, or longer than a value may be: it was written all the same.
            arguments = None
            problem = {
                "problem": str(error),
                "topics": list(entry.topics),
                "data": "0x" + entry.data[:MAX_RAW].hex(),
            }
            logger.warning(
                "a log of %s does not decode: %s", self._filter.event.name, error,
                extra=fields("log_undecodable", chain=self._network.name, tx=entry.transaction_hash, log=entry.index),
            )  # fmt: skip
        return Finding(
            label=f"log {self._network.name} {entry.block_hash} {entry.index}",
            payload={
                "address": checksum_address(entry.address),
                "event": self._filter.event.name,
                "args": arguments,
                "block": {"number": entry.block_number, "hash": entry.block_hash},
                "transaction_hash": entry.transaction_hash,
                "log_index": entry.index,
                **problem,
            },
        )


class LogProducer(ChainProducer):
    """A Producer for all chains."""

    name = "log"

    def serves(self, trigger: Trigger) -> bool:
        """Logs."""
        return isinstance(trigger, Log)

    def _make(self, plugin: str, trigger: Trigger, terms: Terms) -> Follower:
        assert isinstance(trigger, Log)  # it serves no other
        network = self._network(trigger.chain or terms.chain)
        task = Task(producer=self.name, plugin=plugin, trigger=trigger, chain=network.name)
        try:
            source = LogSource(trigger, network)
        except ChainError as error:
            raise ProducerBroken(str(error)) from error
        return ChainFollower(task, source, network, self._router, self._store, self._clock, terms.call_deadline)


def _block(number: int) -> Request:
    return "eth_getBlockByNumber", [hex(number), False]
