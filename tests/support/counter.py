"""A contract that counts: each call without data adds one, and one with data returns how many there were."""

from typing import Any

from tests.support.anvil import Anvil
from tests.support.trades import receipt_of

COUNT = "count() view returns (uint256)"
# With data: the first word of storage. Without: one more in it.
_RUNTIME = bytes.fromhex("36600c57" + "5f546001015f5500" + "5b5f545f5260205ff3")
_CREATION = bytes.fromhex(f"60{len(_RUNTIME):02x}8060095f395ff3") + _RUNTIME


def deploy_counter(node: Anvil) -> str:
    """Its address. The node has to mine."""
    sent = node.rpc("eth_sendTransaction", {"from": node.accounts[0], "data": "0x" + _CREATION.hex()})
    return str(receipt_of(node, sent)["contractAddress"])


def count_on(node: Anvil, contract: str) -> int:
    """One more, mined; and how many there are then."""
    sent: dict[str, Any] = {"from": node.accounts[0], "to": contract, "gas": "0x11170"}
    receipt_of(node, node.rpc("eth_sendTransaction", sent))
    return int(node.rpc("eth_call", {"to": contract, "data": "0x06661abd"}, "latest"), 16)
