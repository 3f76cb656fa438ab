"""A Safe with threshold 1 of which the operator is an owner: `execTransaction`, signed by being its sender.

One call goes directly, several through MultiSendCallOnly. A Safe knows no intent ids: `intent_registry` adds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runnerd.chain.abi import parse_function
from runnerd.chain.address import parse_address
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.multisend import as_one_call
from runnerd.chain.vaults.safe_tx import encode_exec, pre_validated
from runnerd.chain.vaults.views import build_code_request, build_view, decode_code, decode_view

GET_THRESHOLD = parse_function("getThreshold() view returns (uint256)")
IS_OWNER = parse_function("isOwner(address owner) view returns (bool)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeVault:
    """`VaultAdapter` for the Safe at `address`."""

    address: str
    operator: str
    multisend: str
    intent_registry: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", parse_address(self.address))
        object.__setattr__(self, "multisend", parse_address(self.multisend))

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """Needs no signature beside the transaction's own: the sender is an owner, and one is enough."""
        call = as_one_call(calls, intent_id, self.multisend, self.intent_registry)
        return Batch(to=self.address, data=encode_exec(call, pre_validated(self.operator)))

    def without_signatures(self, data: bytes) -> bytes:
        """Its only one is made with the rest."""
        return data

    def build_admission(self) -> tuple[Request, ...]:
        """Threshold, whether we are an owner, and whether the helper contracts are there."""
        return (
            build_view(self.address, GET_THRESHOLD),
            build_view(self.address, IS_OWNER, {"owner": self.operator}),
            *build_helper_requests(self.multisend, self.intent_registry),
        )

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """A Safe that wants more signatures than ours is of kind safe_multisig."""
        threshold, is_owner = decode_view(GET_THRESHOLD, answers[0]), decode_view(IS_OWNER, answers[1])
        if not is_owner:
            return f"our wallet {self.operator} is not an owner of the Safe: its owners must add it"
        if threshold != 1:
            return f'the Safe wants {threshold} signatures, the adapter "safe" gives 1: use "safe_multisig"'
        return find_missing_helper(self.multisend, self.intent_registry, answers[2:])


def build_helper_requests(multisend: str, intent_registry: str | None) -> list[Request]:
    """Ask for the code of the contracts that a batch goes through."""
    return [build_code_request(address) for address in (multisend, intent_registry) if address is not None]


def find_missing_helper(
    multisend: str, intent_registry: str | None, answers: Sequence[JsonValue | RpcRefused]
) -> str | None:
    """A call to an address without code succeeds and does nothing: a batch would be lost without a word."""
    helpers = {"multisend": multisend, "intent_registry": intent_registry}
    configured = [(key, address) for key, address in helpers.items() if address is not None]
    for (key, address), answer in zip(configured, answers, strict=True):
        if not decode_code(answer):
            return f"there is no contract at {key} = {address}"
    return None
