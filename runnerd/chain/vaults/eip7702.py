"""The operator's own account as the vault: an EOA that delegates to a batch executor, EIP-7702.

The transaction goes from the account to itself and calls `execute` of ERC-7821; the delegate takes calls from nobody
else (deploy/contracts/BatchExecutor.vy). Gas and funds are one balance here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runnerd.chain.address import address_bytes, checksum_address, parse_address
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.erc7821 import encode_execute
from runnerd.chain.vaults.views import build_code_request, decode_code

DELEGATION: Final = bytes.fromhex("ef0100")
"""A delegated account's code is this and the delegate's address: https://eips.ethereum.org/EIPS/eip-7702."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eip7702Vault:
    """`VaultAdapter` for the account `address`, which delegates to `delegate` and to nothing else."""

    address: str
    operator: str
    delegate: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", parse_address(self.address))
        object.__setattr__(self, "delegate", parse_address(self.delegate))

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """A call of the account's own `execute`; the delegate refuses a second execution of an intent id."""
        return Batch(to=self.address, data=encode_execute(calls, intent_id))

    def without_signatures(self, data: bytes) -> bytes:
        """There are none."""
        return data

    def build_admission(self) -> tuple[Request, ...]:
        """The account's code, and the delegate's."""
        return build_code_request(self.address), build_code_request(self.delegate)

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """Another delegate would read our calldata in its own way, or let others spend."""
        if self.address != self.operator:
            return f"address = {self.address} must be our wallet itself, {self.operator}: it is an account of EIP-7702"
        code, delegate_code = map(decode_code, answers)
        if code != DELEGATION + address_bytes(self.delegate):
            remedy = f"the wallet must sign an EIP-7702 authorization for delegate = {self.delegate}"
            return f"the wallet {_delegates_to(code)}: {remedy}"
        if not delegate_code:
            return f"there is no contract at delegate = {self.delegate}"
        return None


def _delegates_to(code: bytes) -> str:
    if not code:
        return "delegates to nothing"
    if code.startswith(DELEGATION) and len(code) == len(DELEGATION) + 20:
        return f"delegates to {checksum_address('0x' + code[len(DELEGATION) :].hex())}"
    return "is a contract, not a delegated account"
