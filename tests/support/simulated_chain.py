"""A chain in memory whose head a test moves and reorganises, answering as a node does: blocks, and logs of an event."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode
from eth_hash.auto import keccak

from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.types import Block

EVENT = "event Trade(address indexed by, uint256 size)"
TOPIC = "0x" + keccak(b"Trade(address,uint256)").hex()
CONTRACT = "0x" + "c0" * 20
TRADER = "0x" + "11" * 20


@dataclass(slots=True)
class SimulatedChain:
    """A block has 0 to 3 logs, as its hash says, or what `trades_at` its number says. `max_range`: of one
    eth_getLogs.
    """

    max_range: int = 10_000
    trades_at: dict[int, int] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    """Blocks that the node that is asked does not have."""
    _blocks: dict[str, Block] = field(default_factory=dict)
    _branch: int = 0
    canonical: list[Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.extend(1)

    def extend(self, count: int) -> None:
        """Mine blocks on the head."""
        for _ in range(count):
            number = len(self.canonical)
            parent = self.canonical[-1].hash if self.canonical else "0x" + "00" * 32
            digest = "0x" + hashlib.sha256(f"{parent} {number} {self._branch}".encode()).hexdigest()
            block = Block(
                number=number, hash=digest, timestamp=1_700_000_000 + number, base_fee_wei=7, gas_limit=30_000_000,
                parent_hash=parent,
            )  # fmt: skip
            self._blocks[digest] = block
            self.canonical.append(block)

    def reorganise(self, depth: int, length: int) -> list[Block]:
        """Replace the last `depth` blocks by `length` others. Returns the chain that was, for `switch`."""
        former = list(self.canonical)
        self._branch += 1
        del self.canonical[max(1, len(self.canonical) - depth) :]
        self.extend(length)
        return former

    def switch(self, chain: list[Block]) -> None:
        """Another chain that was once the canonical one is it again."""
        self.canonical = list(chain)

    def trades(self, block: Block) -> list[int]:
        """The sizes in its logs."""
        first = int(block.hash[2:10], 16)
        return list(range(first, first + self.trades_at.get(block.number, first % 4)))

    def answer(self, method: str, params: Sequence[JsonParam]) -> JsonValue | RpcRefused:
        """For `FakeNode`."""
        match method, params:
            case "eth_chainId", _:
                return "0x1"
            case "eth_getBlockByNumber", ("latest", _):
                return _wire(self.canonical[-1])
            case "eth_getBlockByNumber", (str(number), _):
                i = int(number, 16)
                return _wire(self.canonical[i]) if i < len(self.canonical) else None
            case "eth_getBlockByHash", (str(block_hash), _):
                return _wire(self._blocks[block_hash]) if block_hash in self._blocks else None
            case "eth_getBlockTransactionCountByHash", (str(block_hash),):
                is_here = block_hash in self._blocks and block_hash not in self.lost
                return hex(len(self.trades(self._blocks[block_hash]))) if is_here else None
            case "eth_getLogs", ({"blockHash": str(block_hash)},) if block_hash in self.lost:
                return []
            case "eth_getLogs", ({"blockHash": str(block_hash)},):
                return self._logs([self._blocks[block_hash]])
            case "eth_getLogs", ({"fromBlock": str(first), "toBlock": str(last)},):
                if int(last, 16) - int(first, 16) >= self.max_range:
                    return RpcRefused(-32005, "too many blocks", method=method)
                return self._logs(self.canonical[int(first, 16) : int(last, 16) + 1])
            case _:
                raise AssertionError(f"not asked of a node: {method} {params}")

    def _logs(self, blocks: Sequence[Block]) -> JsonValue:
        return [
            {
                "address": CONTRACT,
                "topics": [TOPIC, "0x" + encode(["address"], [TRADER]).hex()],
                "data": "0x" + encode(["uint256"], [size]).hex(),
                "blockNumber": hex(block.number),
                "blockHash": block.hash,
                "transactionHash": block.hash,
                "logIndex": hex(i),
            }
            for block in blocks
            for i, size in enumerate(self.trades(block))
        ]


def _wire(block: Block) -> JsonValue:
    return {
        "number": hex(block.number),
        "hash": block.hash,
        "parentHash": block.parent_hash,
        "timestamp": hex(block.timestamp),
        "gasLimit": hex(block.gas_limit),
        "baseFeePerGas": "0x7",
    }
