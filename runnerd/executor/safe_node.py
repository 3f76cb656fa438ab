"""What a node says of one Safe: its state, the hash its owners sign, and whether it carried a SafeTx out.

Asked by `proposals.ProposalDesk`. Safes from 1.4.1 on index the hash in their events, 1.3 has it in the data.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from eth_hash.auto import keccak
from msgspec import Meta, Struct

from runnerd.chain.errors import AbiError, RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import Count, Data, Hash, decode_count
from runnerd.chain.vaults.safe_multisig import SafeMultisigVault, SafeState
from runnerd.chain.vaults.safe_tx import SafeTx
from runnerd.network import Network

EXECUTION_SUCCESS: Final = "0x" + keccak(b"ExecutionSuccess(bytes32,uint256)").hex()
MAX_LOGS: Final = 10_000
_HEAD: Final[Request] = ("eth_blockNumber", [])


class _Log(Struct, frozen=True, rename="camel"):
    topics: Annotated[list[Hash], Meta(max_length=4)]
    data: Data
    transaction_hash: Hash
    block_number: Count


@dataclass(frozen=True, slots=True)
class Execution:
    """Where it took place, and how many blocks deep that is: 1 in the newest."""

    transaction: str
    block: int
    depth: int


class SafeNode:
    """Every method raises ChainError when the node does not say."""

    def __init__(self, adapter: SafeMultisigVault, network: Network) -> None:
        self._adapter = adapter
        self._network = network

    async def fetch_state(self) -> SafeState:
        """Nonce, threshold and owners, now."""
        answers = await self._network.rpc.batch(self._adapter.build_state())
        try:
            return self._adapter.decode_state(answers)
        except AbiError as error:  # admission saw a Safe here: this says nothing of it
            raise RpcMalformed(str(error)) from None

    async def fetch_hash(self, safe_tx: SafeTx) -> tuple[bytes, int]:
        """What the Safe itself would have signed, and the number of the newest block. Raises AbiError as well."""
        answers = await self._network.rpc.batch((self._adapter.build_hash_request(safe_tx), _HEAD))
        return self._adapter.decode_hash(answers[0]), decode_count(_result(answers[1]), _HEAD[0])

    async def find_execution(self, safe_tx: SafeTx, from_block: int) -> Execution | None:
        """Where the Safe carried out this very transaction, whoever sent it; None if it did not."""
        events: Request = (
            "eth_getLogs",
            [{"address": safe_tx.safe, "fromBlock": hex(from_block), "topics": [EXECUTION_SUCCESS]}],
        )
        found, head = await self._network.rpc.batch((events, _HEAD))
        return find_execution(_result(found), safe_tx.hash, decode_count(_result(head), _HEAD[0]))


def find_execution(answer: JsonValue, safe_tx_hash: bytes, head: int) -> Execution | None:
    """The event with this hash among the Safe's; None if there is none. Raises RpcMalformed."""
    try:
        logs = msgspec.convert(answer, Annotated[list[_Log], Meta(max_length=MAX_LOGS)])
    except msgspec.ValidationError as error:
        raise RpcMalformed(str(error), method="eth_getLogs") from None
    wanted = "0x" + safe_tx_hash.hex()
    for log in logs:
        named = log.topics[1] if len(log.topics) > 1 else log.data[:66]
        if log.topics[:1] == [EXECUTION_SUCCESS] and named.lower() == wanted:
            block = int(log.block_number, 16)
            return Execution(log.transaction_hash.lower(), block, head - block + 1)
    return None


def _result(answer: JsonValue | RpcRefused) -> JsonValue:
    if isinstance(answer, RpcRefused):
        raise answer
    return answer
