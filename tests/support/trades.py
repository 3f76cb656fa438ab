"""A contract that writes the log `Trade(address indexed by, uint256 size)` of what it is called with."""

from eth_abi.abi import encode

from tests.support.anvil import Anvil
from tests.support.simulated_chain import TOPIC

# LOG2 of the second word of the calldata, with the first word as a topic; nothing else.
_RUNTIME = bytes.fromhex("365f5f375f51" + "7f" + TOPIC[2:] + "60206020a200")
_CREATION = bytes.fromhex(f"60{len(_RUNTIME):02x}8060095f395ff3") + _RUNTIME


def deploy_trades(node: Anvil) -> str:
    """Its address. The node has to mine."""
    sent = node.rpc("eth_sendTransaction", {"from": node.accounts[0], "data": "0x" + _CREATION.hex()})
    receipt = node.rpc("eth_getTransactionReceipt", sent)
    return str(receipt["contractAddress"])


def trade(node: Anvil, contract: str, size: int, by: str | None = None) -> str:
    """Write one log; the transaction's hash."""
    data = encode(["address", "uint256"], [by or node.accounts[0], size])
    sent = {"from": node.accounts[0], "to": contract, "data": "0x" + data.hex(), "gas": "0x11170"}
    return str(node.rpc("eth_sendTransaction", sent))
