"""A contract that writes one log of what it is called with, under a topic of its own: stimulus, and reaction."""

import json
from typing import Any, Final

from eth_abi.abi import encode
from eth_hash.auto import keccak

from tests.support.anvil import Anvil
from tests.support.trades import receipt_of

POKED: Final = "event Poked(uint256 id, uint256 who)"
REACT: Final = "react(uint256 id, uint256 who)"
GAS: Final = 60_000
_ARGUMENTS: Final = [{"name": "id", "type": "uint256"}, {"name": "who", "type": "uint256"}]
ABI: Final = json.dumps(
    [
        {
            "type": "event",
            "name": "Poked",
            "anonymous": False,
            "inputs": [argument | {"indexed": False} for argument in _ARGUMENTS],
        },
        {"type": "function", "name": "react", "stateMutability": "payable", "inputs": _ARGUMENTS, "outputs": []},
    ]
)
REACT_SELECTOR: Final = keccak(b"react(uint256,uint256)")[:4]


def topic_of(event: str) -> str:
    """Of `Poked` or `Reacted`."""
    return "0x" + keccak(f"{event}(uint256,uint256)".encode()).hex()


def deploy_echo(node: Anvil, event: str) -> str:
    """A contract whose log is `event(uint256,uint256)`; its address. The node has to mine."""
    # LOG1 of the calldata behind the selector.
    runtime = bytes.fromhex("600436038060045f37" + "7f" + topic_of(event)[2:] + "905fa100")
    creation = bytes.fromhex(f"60{len(runtime):02x}8060095f395ff3") + runtime
    sent = node.rpc("eth_sendTransaction", {"from": node.accounts[0], "data": "0x" + creation.hex()})
    return str(receipt_of(node, sent)["contractAddress"])


def poking(sender: str, contract: str, number: int, who: int = 0) -> dict[str, Any]:
    """The transaction that writes the log."""
    data = REACT_SELECTOR + encode(["uint256", "uint256"], [number, who])
    return {"from": sender, "to": contract, "data": "0x" + data.hex(), "gas": hex(GAS)}
