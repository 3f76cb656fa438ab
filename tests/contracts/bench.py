"""What the contract tests talk through: a vault and a market on a chain, who is who, how to send, how to be refused.

`Bench` is handed out by the fixture in `conftest.py`. Helpers that need no chain are functions below it.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError
from web3.logs import DISCARD
from web3.types import TxReceipt, Wei

from tests.support.anvil import Anvil
from tests.support.contracts import (
    MODE_BATCH,
    MODE_BATCH_OPDATA,
    Call,
    encode_calls,
    encode_calls_with_op_data,
)

ETHER = 10**18
SPOT = 200_000
ERROR_STRING = Web3.keccak(text="Error(string)")[:4]
GAS = 5_000_000  # given, so that a transaction which reverts is mined instead of refused by the gas estimate
ECHO_REVERT = "0x366000600037366000fd"  # reverts with its own calldata


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A vault holding 10 ether that allows its operator both mints of a market, 1 ether a batch and 2 ether a day."""

    node: Anvil
    w3: Web3
    vault: Contract
    market: Contract
    owner: ChecksumAddress
    operator: ChecksumAddress
    stranger: ChecksumAddress

    def send(self, function: ContractFunction, sender: ChecksumAddress, value: int = 0) -> TxReceipt:
        """Mine one transaction; its receipt, whatever its status."""
        tx_hash = function.transact({"from": sender, "value": Wei(value), "gas": GAS})
        return self.w3.eth.wait_for_transaction_receipt(tx_hash, timeout=10, poll_latency=0.01)

    def done(self, function: ContractFunction, sender: ChecksumAddress, value: int = 0) -> TxReceipt:
        """Mine one transaction that has to succeed."""
        receipt = self.send(function, sender, value)
        assert receipt["status"] == 1, f"{function.fn_name} by {sender} reverted: {refusal(function, sender, value)!r}"
        return receipt

    def batch(
        self, *calls: Call, intent_id: bytes | None = None, mode: bytes | None = None, data: bytes | None = None
    ) -> ContractFunction:
        """The `execute` for these calls; `mode` and `data` override what would be encoded for them."""
        if intent_id is None:
            return self.vault.functions.execute(mode or MODE_BATCH, encode_calls(calls) if data is None else data)
        encoded = encode_calls_with_op_data(calls, intent_id)
        return self.vault.functions.execute(mode or MODE_BATCH_OPDATA, encoded if data is None else data)

    def mint(self, value: int = 1, *, lower: int | None = None) -> Call:
        """A mintBinary at the spot, or with `lower` a mintRange from there to the spot, staking `value`."""
        if lower is None:
            return Call(self.market.address, value, calldata(self.market, "mintBinary", SPOT, True))
        return Call(self.market.address, value, calldata(self.market, "mintRange", lower, SPOT))

    def allow(self, target: str, selector: bytes) -> None:
        """Let the owner allow one function of one target."""
        self.done(self.vault.functions.setAllowed(target, selector, True), self.owner)

    def place(self, address_byte: int, code: str) -> ChecksumAddress:
        """Put runtime bytecode at an address of its own."""
        address = Web3.to_checksum_address("0x" + bytes([0xC0, address_byte]).hex() * 10)
        self.node.rpc("anvil_setCode", address, code)
        return address

    def next_block_at(self, timestamp_s: int) -> None:
        """Fix the time of the next block."""
        self.node.rpc("evm_setNextBlockTimestamp", timestamp_s)

    def next_midnight(self) -> int:
        """The first second of the next UTC day, on the chain's clock."""
        return (self.w3.eth.get_block("latest")["timestamp"] // 86_400 + 1) * 86_400

    def events(self, receipt: TxReceipt, name: str, contract: Contract | None = None) -> list[dict[str, Any]]:
        """Arguments of the events of that name which the vault (or `contract`) emitted."""
        event = (contract or self.vault).events[name]()
        return [dict(log["args"]) for log in event.process_receipt(receipt, errors=DISCARD)]


def calldata(contract: Contract, name: str, *arguments: object) -> bytes:
    """The ABI-encoded call of that function, selector first."""
    return bytes.fromhex(contract.encode_abi(name, args=arguments).removeprefix("0x"))


def selector(signature: str) -> bytes:
    """The first four bytes of the signature's hash, as in "setSpot(uint256)"."""
    return bytes(Web3.keccak(text=signature)[:4])


def revert_data(function: ContractFunction, sender: ChecksumAddress, value: int = 0) -> bytes:
    """What the call reverts with, raw; the test fails when it does not revert."""
    try:
        function.call({"from": sender, "value": Wei(value), "gas": GAS})
    except ContractLogicError as error:
        data = error.data
        return bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else b""
    pytest.fail(f"{function.fn_name} by {sender} went through")


def refusal(function: ContractFunction, sender: ChecksumAddress, value: int = 0) -> str:
    """The reason the call reverts with, or "" when it reverts without one."""
    data = revert_data(function, sender, value)
    if not data:
        return ""
    assert data[:4] == ERROR_STRING, f"not a reason: {data.hex()}"
    reason: str = decode(["string"], data[4:])[0]
    return reason
