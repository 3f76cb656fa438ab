"""A contract that writes the log `Trade(address indexed by, uint256 size)` of what it is called with."""

import time
from typing import Any

from eth_abi.abi import encode

from tests.support.anvil import Anvil
from tests.support.simulated_chain import TOPIC

# LOG2 of the second word of the calldata, with the first word as a topic; nothing else.
_RUNTIME = bytes.fromhex("365f5f375f51" + "7f" + TOPIC[2:] + "60206020a200")
_CREATION = bytes.fromhex(f"60{len(_RUNTIME):02x}8060095f395ff3") + _RUNTIME
DEADLINE_S = 10.0
POLL_S = 0.002


def deploy_trades(node: Anvil) -> str:
    """Its address. The node has to mine."""
    sent = node.rpc("eth_sendTransaction", {"from": node.accounts[0], "data": "0x" + _CREATION.hex()})
    return str(receipt_of(node, sent)["contractAddress"])


def trade(node: Anvil, contract: str, size: int, by: str | None = None) -> str:
    """Write one log, and wait until it is mined; the transaction's hash."""
    data = encode(["address", "uint256"], [by or node.accounts[0], size])
    sent = {"from": node.accounts[0], "to": contract, "data": "0x" + data.hex(), "gas": "0x11170"}
    return str(receipt_of(node, node.rpc("eth_sendTransaction", sent))["transactionHash"])


def receipt_of(node: Anvil, transaction: str) -> dict[str, Any]:
    """Once it is mined."""
    until = time.monotonic() + DEADLINE_S
    while True:
        receipt: dict[str, Any] | None = node.rpc("eth_getTransactionReceipt", transaction)
        if receipt is not None:
            return receipt
        assert time.monotonic() < until, f"{transaction} was not mined within {DEADLINE_S:g} s"
        time.sleep(POLL_S)
