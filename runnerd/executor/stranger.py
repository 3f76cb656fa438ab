"""Is a keeper's call really permissionless? The same call, from an address that nobody has ever given a right to.

The owner's `permissionless = true` is a statement; this is the test of it, in the round trip of each simulation that a
signature rests on. A fresh address each time: none can be let in beforehand. Pure but for drawing it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from runnerd.chain.abi import AbiFunction
from runnerd.chain.address import checksum_address
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.simulate import CallMessage, build_check, decode_check
from runnerd.chain.types import Block
from runnerd.executor.observation import SimulationReverted


def build_stranger(block: Block, message: CallMessage) -> Request:
    """The request. Without a price for gas the stranger needs no money, as any caller of eth_call."""
    stranger = checksum_address("0x" + secrets.token_hex(20))
    return build_check(block, replace(message, sender=stranger), None)


def judge_stranger(
    block: Block, keeper: str, answer: JsonValue | RpcRefused, errors: Sequence[AbiFunction]
) -> SimulationReverted | None:
    """Why what succeeds for `keeper` must not be signed; None if it succeeds for a stranger too.

    Raises RpcRefused and RpcMalformed, which prove nothing.
    """
    reverted = decode_check(answer, errors=errors)
    if reverted is None:
        return None
    reason = f"not permissionless: it succeeds for the keeper {keeper} and reverts for a stranger: {reverted.reason}"
    return SimulationReverted(reason, block.number, is_privileged=True)
