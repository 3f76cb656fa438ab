"""What the nodes say of one Safe: its state, the hash its owners sign, and who used a nonce of it.

Asked by `proposals.ProposalDesk`. `fetch_state` is one node's word, enough to go on waiting; all else is a quorum's, at
a named block. What it proves is `safe_verdict`'s to say.
"""

from collections.abc import Sequence
from typing import Final

from runnerd.chain.errors import AbiError, RpcMalformed, RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.pool.agreement import Comparable, comparable
from runnerd.chain.reads import block_parameter
from runnerd.chain.types import Block, decode_block
from runnerd.chain.vaults.safe_multisig import SafeMultisigVault, SafeState
from runnerd.chain.vaults.safe_tx import SafeTx
from runnerd.executor.proposal import Proposal
from runnerd.executor.safe_verdict import (
    EXECUTION_FAILURE,
    EXECUTION_SUCCESS,
    Execution,
    FellOut,
    NotFinal,
    Passed,
    Unexplained,
    UsedBy,
    decode_executions,
    find_user,
    is_in_receipt,
)
from runnerd.network import NamedNode, Network

REORG_BLOCKS: Final = 64
"""After a reorg our SafeTx may stand in a block with a lower number than the one at which it was proposed."""
PAGE_BLOCKS: Final = 1_000
"""Per eth_getLogs: many nodes refuse more."""
MAX_PAGES: Final = 20
"""Per round trip."""


class SafeNode:
    """Every method raises ChainError when the nodes do not say, or do not agree."""

    def __init__(self, adapter: SafeMultisigVault, network: Network) -> None:
        self._adapter = adapter
        self._network = network
        self._agreed: tuple[str, SafeState] | None = None
        self._looked_at: str | None = None

    async def fetch_state(self) -> tuple[Block, SafeState]:
        """Nonce, threshold and owners at the newest block, by one node."""

        async def look(node: NamedNode, block: Block) -> tuple[Block, SafeState]:
            return block, self._decode_state(await node.batch(self._build_state(block)))

        return await self._network.at_newest_block(look)

    async def fetch_agreed_state(self, block: Block) -> SafeState:
        """The same at this block, by a quorum; asked once per block."""
        if self._agreed is None or self._agreed[0] != block.hash:
            state = self._decode_state(await self._network.agreed(self._build_state(block)))
            self._agreed = block.hash, state
        return self._agreed[1]

    async def fetch_agreed_hash(self, safe_tx: SafeTx, block: Block) -> bytes:
        """What the Safe itself would have signed. Raises AbiError as well."""
        (answer,) = await self._network.agreed([_at(block, self._adapter.build_hash_request(safe_tx))])
        return self._adapter.decode_hash(answer)

    async def find_user(self, proposal: Proposal, passed: Passed) -> NotFinal | FellOut | UsedBy:
        """Who used the nonce that has passed. The quorum is asked when its block is final, and then once per block."""
        head = self._network.head.latest or await self._network.head.fetch()
        if head.hash == self._looked_at:
            return NotFinal()
        self._looked_at = head.hash
        if not await self._is_final(passed.block.number, head.number):
            return NotFinal()
        block_hash, executions = await self._fetch_executions(proposal, passed)
        user = find_user(proposal, passed, block_hash, executions)
        if isinstance(user, Unexplained):
            raise RpcUnavailable(user.reason, method="eth_getLogs")
        if isinstance(user, UsedBy):
            await self._check_receipt(user.execution)
        return user

    async def _is_final(self, block: int, head: int) -> bool:
        """By one node's word: it spares the question to the others."""
        rules = self._network.rules
        if rules.is_final_by_tag:
            return block <= await self._network.fetch_finalized()
        return head >= rules.final_at(block)

    async def _fetch_executions(self, proposal: Proposal, passed: Passed) -> tuple[str, list[Execution]]:
        """The hash of the block that has the number of `passed`, and what the Safe carried out up to it."""
        safe, last = self._adapter.address, passed.block.number
        first = max(0, proposal.opened_block - REORG_BLOCKS)
        starts = range(first, last + 1, PAGE_BLOCKS)
        pages = [_build_logs(safe, start, min(start + PAGE_BLOCKS - 1, last)) for start in starts]
        header: Request = ("eth_getBlockByNumber", [hex(last), False])

        def key(method: str, result: JsonValue) -> Comparable:
            # Some nodes add fields to a log.
            return decode_executions(result, safe) if method == "eth_getLogs" else comparable(method, result)

        block_hash, executions = "", list[Execution]()
        for i in range(0, len(pages), MAX_PAGES):
            requests = [header, *pages[i : i + MAX_PAGES]]
            block, *logs = map(_result, await self._network.agreed_when_final(last, requests, key=key))
            block_hash = decode_block(block).hash
            for found in logs:
                executions += decode_executions(found, safe)
        return block_hash, executions

    async def _check_receipt(self, execution: Execution) -> None:
        """The end of a call is a receipt on which a quorum agrees. Raises ChainError when it does not show it."""
        requests: list[Request] = [("eth_getTransactionReceipt", [execution.transaction])]
        (answer,) = await self._network.agreed_when_final(execution.block, requests)
        if not is_in_receipt(_result(answer), execution, self._adapter.address):
            reason = f"the receipt of {execution.transaction} does not show what the Safe's logs show"
            raise RpcUnavailable(reason, method=requests[0][0])

    def _build_state(self, block: Block) -> list[Request]:
        return [_at(block, request) for request in self._adapter.build_state()]

    def _decode_state(self, answers: Sequence[JsonValue | RpcRefused]) -> SafeState:
        try:
            return self._adapter.decode_state(answers)
        except AbiError as error:  # admission saw a Safe here: this says nothing of it
            raise RpcMalformed(str(error)) from None


def _at(block: Block, view: Request) -> Request:
    """The same question to a contract, at this very block."""
    method, (call, _) = view
    return method, [call, block_parameter(block)]


def _build_logs(safe: str, first: int, last: int) -> Request:
    topics = [[EXECUTION_SUCCESS, EXECUTION_FAILURE]]
    return "eth_getLogs", [{"address": safe, "fromBlock": hex(first), "toBlock": hex(last), "topics": topics}]


def _result(answer: JsonValue | RpcRefused) -> JsonValue:
    if isinstance(answer, RpcRefused):
        raise answer
    return answer
