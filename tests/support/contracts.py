"""Committed contract artifacts for tests: load one, deploy one, encode an ERC-7821 batch.

Uses synchronous web3 and the node's own unlocked accounts. The batch encoder is deliberately not the supervisor's: it
is written from the ERC, so the two check each other.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from eth_abi.abi import encode
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.middleware import AttributeDictMiddleware

ARTIFACTS_DIR = Path(__file__).resolve().parents[2] / "deploy/contracts/artifacts"
MODE_BATCH = bytes.fromhex("01000000000000000000").ljust(32, b"\0")
MODE_BATCH_OPDATA = bytes.fromhex("01000000000078210001").ljust(32, b"\0")


class Artifact(TypedDict):
    """What `deploy/contracts/build.py` writes. Both bytecodes are 0x-prefixed hex."""

    contract: str
    compiler: str
    evm_version: str
    source_sha256: str
    abi: list[Any]
    bytecode: str
    runtime_bytecode: str


class Call(NamedTuple):
    """One call of a batch: target address, wei to send with it, calldata."""

    to: str
    value: int = 0
    data: bytes = b""


@cache
def load_artifact(name: str) -> Artifact:
    """The committed artifact of `name`, such as "OperatorVault"."""
    artifact: Artifact = json.loads((ARTIFACTS_DIR / f"{name}.json").read_text())
    return artifact


def connect(w3_or_url: Web3 | str) -> Web3:
    """A synchronous Web3 for an URL; one that already is a Web3 comes back as it is.

    The node fills in gas and fees itself: web3's middleware for that would triple the number of requests.
    """
    if not isinstance(w3_or_url, str):
        return w3_or_url
    return Web3(Web3.HTTPProvider(w3_or_url), middleware=[AttributeDictMiddleware])


def deploy(w3_or_url: Web3 | str, name: str, *constructor_args: object, sender: str | None = None) -> ChecksumAddress:
    """Deploy `name` from its artifact, by the node's first account unless `sender` is given; return its address."""
    artifact = load_artifact(name)
    return deploy_code(w3_or_url, artifact["abi"], artifact["bytecode"], *constructor_args, sender=sender)


def deploy_code(
    w3_or_url: Web3 | str, abi: list[Any], bytecode: str, *constructor_args: object, sender: str | None = None
) -> ChecksumAddress:
    """Deploy any creation code; return the new contract's address."""
    w3 = connect(w3_or_url)
    account = Web3.to_checksum_address(sender) if sender else w3.eth.accounts[0]
    tx_hash = w3.eth.contract(abi=abi, bytecode=bytecode).constructor(*constructor_args).transact({"from": account})
    address = w3.eth.wait_for_transaction_receipt(tx_hash, timeout=10, poll_latency=0.01)["contractAddress"]
    if address is None:
        raise RuntimeError(f"transaction {tx_hash.to_0x_hex()} created no contract")
    return address


def encode_calls(calls: Sequence[Call]) -> bytes:
    """`abi.encode(Call[])`, the executionData of a batch without opData."""
    return encode(["(address,uint256,bytes)[]"], [list(calls)])


def encode_calls_with_op_data(calls: Sequence[Call], op_data: bytes) -> bytes:
    """`abi.encode(Call[], bytes)`, the executionData of a batch with opData (the vault: empty or an intent id)."""
    return encode(["(address,uint256,bytes)[]", "bytes"], [list(calls), op_data])
