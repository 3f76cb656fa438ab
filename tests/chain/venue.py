"""A vault and a market on a real node, set up through the code under test: who is who, and how to send."""

import time
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode

from protocol.values import Value
from runnerd.chain.abi import encode_call, parse_function
from runnerd.chain.address import parse_address
from runnerd.chain.types import Receipt, decode_receipt
from runnerd.chain.vault import Call
from runnerd.chain.vaults.erc7821 import Erc7821Vault
from runnerd.wallets.keystore import KeystoreSigner
from tests.support.anvil import Anvil
from tests.support.contracts import load_artifact

ETHER = 10**18
SPOT = 200_000
MINT = parse_function("mintBinary(uint256 strike, bool above) payable returns (uint256 positionId)")
MINT_RANGE = parse_function("mintRange(uint256 lower, uint256 upper) payable returns (uint256 positionId)")
SET_ALLOWED = parse_function("setAllowed(address target, bytes4 selector, bool allowed)")
SET_CAPS = parse_function("setCaps(uint256 maxPerTransaction, uint256 maxPerDay)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """A vault with 10 ether whose operator is `operator`; both mints of `market` are allowed, 1 ether at a time."""

    anvil: Anvil
    owner: str
    operator: str
    market: str
    vault: Erc7821Vault

    def mint(self, strike: int = SPOT, value_wei: int = 10, **args: Value) -> Call:
        """A call of the market that a batch may contain."""
        return Call(
            to=self.market, value_wei=value_wei, data=encode_call(MINT, {"strike": strike, "above": True} | args)
        )

    def send(self, sender: str, to: str, data: bytes) -> Receipt:
        """Mine a transaction of an account that the node has unlocked, whatever its outcome."""
        fields = {"from": sender, "to": to, "data": "0x" + data.hex(), "gas": hex(5_000_000)}
        return self.receipt(self.anvil.rpc("eth_sendTransaction", fields))

    def receipt(self, transaction_hash: str) -> Receipt:
        """The receipt of a transaction, as soon as automine has mined it."""
        receipt = decode_receipt(wait_for_receipt(self.anvil, transaction_hash))
        assert receipt is not None
        return receipt


def wait_for_receipt(anvil: Anvil, transaction_hash: str) -> dict[str, Any]:
    """The node's own receipt; automine needs a moment after the hash is returned."""
    deadline = time.monotonic() + 5
    while (receipt := anvil.rpc("eth_getTransactionReceipt", transaction_hash)) is None:
        assert time.monotonic() < deadline, "not mined"
    found: dict[str, Any] = receipt
    return found


def deploy(anvil: Anvil, name: str, constructor_args: bytes) -> str:
    """The address of a new contract from its artifact. Without web3, whose session would stay open."""
    code = load_artifact(name)["bytecode"] + constructor_args.hex()
    sent = anvil.rpc("eth_sendTransaction", {"from": anvil.accounts[0], "data": code, "gas": hex(8_000_000)})
    receipt = wait_for_receipt(anvil, sent)
    assert receipt["status"] == "0x1"
    return parse_address(receipt["contractAddress"])


def open_venue(anvil: Anvil, signer: KeystoreSigner) -> Venue:
    """Deploy both contracts by the node's first account; the signer becomes operator and gets ether for gas."""
    owner = parse_address(anvil.accounts[0])
    market = deploy(anvil, "RangeMarket", encode(["uint256", "address"], [SPOT, owner]))
    address = deploy(anvil, "OperatorVault", encode(["address", "address"], [owner, signer.address]))
    vault = Erc7821Vault(address=address, operator=signer.address)
    venue = Venue(anvil=anvil, owner=owner, operator=signer.address, market=market, vault=vault)
    anvil.rpc("anvil_setBalance", address, hex(10 * ETHER))
    anvil.rpc("anvil_setBalance", signer.address, hex(10 * ETHER))
    grants: list[Any] = [
        encode_call(SET_ALLOWED, {"target": market, "selector": "0x" + function.selector.hex(), "allowed": True})
        for function in (MINT, MINT_RANGE)
    ]
    grants.append(encode_call(SET_CAPS, {"maxPerTransaction": ETHER, "maxPerDay": 100 * ETHER}))
    for data in grants:
        assert venue.send(owner, address, data).status == 1
    return venue
